"""Stage two: from a cache to a student, with no teacher."""
