"""Completions -> diversity: metrics and what they compute with, intervals, the decomposition, alerts."""
