"""From a file of texts and a student to a file of labels, in memory of a window of rows.

`source` opens the input and `rows` reads it row by row, with `records` for lines and CSV; `student`
loads the model and `classify` runs it over windows; `layout`, `glue` and `sink` write; `run` puts
them together.
"""
