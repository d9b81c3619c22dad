"""What people hold in their hands: generated combinations of arrays, dtypes, closures, jit and modes."""
