"""Forward-only operations of Vision Mamba over packed sequences.

Importing any of vimserve's packages first sets what PyTorch's libraries read when they load.
"""

import os

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
