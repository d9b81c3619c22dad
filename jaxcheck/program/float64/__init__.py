"""The caller's program in float64."""
