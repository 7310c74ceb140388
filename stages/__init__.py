"""One module per DVC stage: each is one command."""
