"""The one training loop, of teachers and students, and the folder that a run leaves."""
