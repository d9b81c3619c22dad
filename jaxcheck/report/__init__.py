"""Report -> text, JSON, HTML, plots. Sees `jaxcheck.result` only; each module loads when it is asked for."""
