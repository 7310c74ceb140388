"""The table of results: real data, settings chosen apart from the reported rows; it grows."""
