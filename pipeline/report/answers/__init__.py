"""What teacher and students answered, row by row: from logits to tables and examples."""
