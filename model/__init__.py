"""Models: images to answers, without HTTP."""

import kernels  # noqa: F401  (before PyTorch: it sets how threads wait)
