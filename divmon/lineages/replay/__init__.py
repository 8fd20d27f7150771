"""Trains the stages of a recipe in order with the monitor on, and resumes where a replay stopped."""
