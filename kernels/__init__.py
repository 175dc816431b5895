"""Operations of Vision Mamba over packed sequences.

Every import of a vimserve package imports this module first. It sets the environment variables
that PyTorch's libraries read when they load.
"""

import ctypes
import os
from contextlib import suppress


def _set_default(variable: str, value: str) -> None:
    if not os.environ.get(variable):  # an empty variable is an unset one
        os.environ[variable] = value


# By default, OpenMP threads spin for long between parallel regions. If anything else needs a core
# (a decoder, the event loop), a spinning thread delays the thread that it waits for: a 224-pixel
# forward pass beside one busy process took 2,143 ms, against 92 ms if threads sleep at once. But
# waking a sleeping thread takes longer than the gap between two regions: on an idle machine the
# pass took 46 ms, against 32 ms. So threads spin for some tens of microseconds, then sleep.
_set_default("GOMP_SPINCOUNT", "3000")

# oneDNN caches compiled code for each number of tokens, by default for 1,024 of them: with images
# of many sizes a server grew by 2 MB a batch. This limit keeps about the last sixteen.
_set_default("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
_set_default("LRU_CACHE_CAPACITY", "64")

# Parameters of glibc's mallopt (malloc.h): when freed memory goes back to the system, and how much.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def _keep_freed_memory() -> None:
    """Keep freed memory for the next layer, whose tensors have the same sizes.

    By default glibc returns the free end of its heap to the system at once, and each layer of each
    forward pass faults the same pages in again, zeroed: at 1024 pixels a Vim-Ti took 773 ms,
    against 576 ms with the memory kept. ``release_unused`` in ``model.device_memory`` returns it
    to the system.
    """
    with suppress(OSError, AttributeError):  # the C library is not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # glibc's maximum; larger blocks are mapped
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_TOP_PAD, 128 << 20)  # more than a thread's heap: it is never unmapped


_keep_freed_memory()
