"""Many students from one loaded cache: a grid, or a search, over parameters."""
