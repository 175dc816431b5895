"""HTTP to engine and back; the only package that knows FastAPI."""

import kernels as _kernels  # noqa: F401  sets how OpenMP threads wait, which torch reads once

__version__ = "0.1.0"
