"""The machinery of pkd: importable, quiet, and free of command-line code."""
