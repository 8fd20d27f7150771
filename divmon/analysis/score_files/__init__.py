"""Files of completions that exist already: graded, scored, compared; what `divmon score` prints."""
