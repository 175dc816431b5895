"""High-resolution inference server for Vision Mamba (Vim).

Its parts are links to the folders at the top of the repository, which are imported through here.
"""

from vimserve import kernels as _kernels  # noqa: F401  sets how threads wait, which torch reads once

__version__ = "0.1.0"
