"""One module for each DVC stage: a command with its subcommands."""
