"""The report: run records in, one Markdown page, one HTML page and DVC's plot data out."""
