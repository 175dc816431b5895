"""Forward-only operations of Vision Mamba over packed sequences.

Importing any of vimserve's packages first sets what PyTorch's libraries read when they load.
"""

import ctypes
import os
from contextlib import suppress

# Between parallel regions, OpenMP threads spin for long by default. As soon as anything else wants
# a core (a decoder, the event loop) a spinning thread holds up the one it waits for: a 224-pixel
# forward pass beside one busy process took 2,143 ms, against 92 ms where threads sleep at once.
# But to wake a sleeping one takes longer than the gap between two regions: 46 ms against 32 ms on
# an idle machine. So they spin across such a gap, some tens of microseconds, and then sleep.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# oneDNN keeps compiled code for every number of tokens that it has seen, by default for 1,024 of
# them: images of any sizes made a server grow by 2 MB a batch. This keeps the last sixteen or so.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")

# Of glibc's malloc (malloc.h): what to give back to the system when memory is freed, and when.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def _keep_freed_memory() -> None:
    """Let freed memory wait for the next layer, whose tensors have the same sizes.

    By default glibc returns the end of its heap to the system as soon as it is free, and each layer
    of each forward pass faults the same pages in again, zeroed: at 1024 pixels a Vim-Ti took
    773 ms, against 576 ms without. ``release_unused`` in ``model.device_memory`` gives it back on
    purpose.
    """
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that it takes; larger blocks are mapped
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_TOP_PAD, 128 << 20)  # more than a thread's heap, which is thus never unmapped


_keep_freed_memory()
