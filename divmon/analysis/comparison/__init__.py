"""Runs side by side; `compare` brings it together and `table` prints it.

    members -> alignment -> looks -> contrasts -> differences (parting) -> summary, frontier, stages, compositions

Which runs; what may be compared and why the rest may not; where on an axis runs are compared; by how much they differ
and how sure that is; where they part. `rescoring` scores stored samples again, and with them `parts` splits a
difference into quality control and narrowing.
"""
