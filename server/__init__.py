"""HTTP to engine and back; the only package that knows FastAPI."""

__version__ = "0.1.0"
