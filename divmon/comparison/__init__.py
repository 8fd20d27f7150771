"""Runs side by side: `compare` brings it together, in the order

settings -> alignment -> looks -> contrasts -> parting, frontier, stages -> table

What may be compared and why the rest may not, where on an axis runs are compared, by how much they differ and how sure
that is, where they part, what each is worth beside its accuracy, what each stage of a lineage took, and all of it in a
terminal.
"""
