"""The report's sections: each file turns the findings of a task into texts, tables and pictures."""
