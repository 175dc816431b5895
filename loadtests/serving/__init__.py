"""The server against its own model and against LitServe."""
