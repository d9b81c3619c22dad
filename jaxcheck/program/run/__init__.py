"""How programs are run: compiled once, in pieces that fit, over devices and processes."""
