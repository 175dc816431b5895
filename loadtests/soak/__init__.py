"""A server under everything that a hard day brings."""
