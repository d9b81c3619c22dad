"""What the command line and the pytest plugin are made of."""
