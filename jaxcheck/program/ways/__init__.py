"""Ways to run a program, each a small interpretation of single equations on the one evaluator."""
