"""The server against the bare model."""
