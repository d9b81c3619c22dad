"""Second looks at what is in doubt, each with its own kind of evidence."""
