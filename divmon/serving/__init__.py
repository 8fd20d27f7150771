"""What a completion server is asked over HTTP, and how it is tried out before `divmon.samplers.server` draws with it."""
