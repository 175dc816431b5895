"""HTTP to engine and back; the only package that knows FastAPI."""
