"""The stages of a recipe trained in order, with the monitor on, going on where they stopped."""
