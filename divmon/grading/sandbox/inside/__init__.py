"""What runs inside the sandbox. Nothing here imports the rest of divmon, which is not there, nor what is slow to load.

`program_side` holds the program, `tests_side` the tests; `values` is all that passes between them.
"""
