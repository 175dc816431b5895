"""Names of threads, as ``top -H`` and the load tests show them."""

from contextlib import suppress
from pathlib import Path


def name_thread(name: str) -> None:
    """Give the calling thread a name, of which Linux keeps 15 bytes.

    Threads that it starts from outside of Python, such as OpenMP's, get the same name.
    """
    with suppress(OSError):  # only Linux has this file
        Path("/proc/thread-self/comm").write_text(name)
