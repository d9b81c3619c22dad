"""A rule under JAX's transformations and in other dtypes."""
