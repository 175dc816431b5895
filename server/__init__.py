"""HTTP to engine and back; the only package that knows FastAPI."""

import model  # noqa: F401  (before PyTorch: see kernels/__init__.py)

__version__ = "0.1.0"
