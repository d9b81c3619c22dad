"""What is measured of a problem: numbers with their bars, never a verdict."""
