"""The run directory: its only writer and its reader, and files of completions."""
