"""Forward-only operations of Vision Mamba over packed sequences.

Importing any of vimserve's packages first sets what PyTorch's libraries read when they load.
"""

import os

# Between parallel regions, OpenMP threads spin by default. As soon as anything else wants a core
# (a decoder, the event loop) a spinning thread holds up the one it waits for: a 224-pixel forward
# pass beside one busy process took 2,143 ms instead of 92 ms. Sleeping costs nothing measurable on
# an idle machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# oneDNN keeps compiled code for every number of tokens that it has seen, by default for 1,024 of
# them: images of any sizes made a server grow by 2 MB a batch. This keeps the last sixteen or so.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
