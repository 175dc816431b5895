"""The server: HTTP routes, engine and command line; the only package that uses FastAPI."""
