import kernels  # noqa: F401  (before PyTorch: it sets how threads wait)
