"""What a user does, run as the user runs it: a short script in a process of its own, with the options' defaults."""
