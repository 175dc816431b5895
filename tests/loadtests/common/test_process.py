import mmap
import os
import subprocess
import threading

import pytest

from vimserve.loadtests.common.process import usage


def test_usage_of_this_process(tmp_path):
    before = usage(os.getpid())
    held = mmap.mmap(-1, 50 * 2**20)  # not from an allocator, which might use old pages again
    held.write(os.urandom(len(held)))
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with (tmp_path / "file").open("wb"):
        during = usage(os.getpid())
    stop.set()
    thread.join()
    assert during.resident_bytes - before.resident_bytes > 40 * 2**20
    assert during.file_descriptors == before.file_descriptors + 1
    assert during.threads == before.threads + 1
    held.close()


def test_a_process_that_has_ended():
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            usage(process.pid)
    with pytest.raises(FileNotFoundError):
        usage(process.pid)
