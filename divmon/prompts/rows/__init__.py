"""Rows of files that people have: any format, the usual names of columns, the outputs of other tools."""
