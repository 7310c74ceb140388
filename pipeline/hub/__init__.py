"""Publishing students and caches as repositories of the Hugging Face Hub."""
