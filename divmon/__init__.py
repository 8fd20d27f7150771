"""divmon: watch the output diversity of a language model while it is post-trained."""
