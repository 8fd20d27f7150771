"""What runs tell when they are read back: curves, comparisons, reports, scored files of completions."""
