"""Linear probes: what each layer of a teacher knows of the task."""
