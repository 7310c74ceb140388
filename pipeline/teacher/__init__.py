"""Fine-tuning a teacher, and running it. Nothing here is imported by stage two."""
