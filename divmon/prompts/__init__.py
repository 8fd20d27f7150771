"""What is asked: tasks, probes of the user's own, and how a prompt looks to the model."""
