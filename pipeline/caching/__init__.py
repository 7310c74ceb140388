"""Stage one: from prepared data and a teacher to a cache."""
