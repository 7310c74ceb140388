"""The table of results: real data, settings chosen apart from what is reported; it grows by runs."""
