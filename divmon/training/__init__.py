"""What a live run needs: when to measure and at what cost, its processes, its trainer, rollouts, the training data."""
