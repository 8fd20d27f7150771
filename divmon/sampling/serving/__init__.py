"""What a completion server is asked over HTTP, and how it is tried out first; `samplers.server` draws with it."""
