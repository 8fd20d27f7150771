"""Published checkpoints of Olmo 3, measured and laid over the numbers that the paper publishes."""
