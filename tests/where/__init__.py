"""Right backward passes, single mistakes planted into them, and whether the line is found."""
