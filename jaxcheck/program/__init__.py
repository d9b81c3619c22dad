"""What the user's program is, and other ways to run it."""
