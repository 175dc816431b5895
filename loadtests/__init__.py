"""Measurements: the bare model, the server under load, Vim against DeiT."""

import model  # noqa: F401  (before PyTorch: see kernels/__init__.py)
