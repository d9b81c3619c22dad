"""Custom derivative rules in a program: which they are, whose, and the program without them."""
