import mmap
import os
import subprocess
import sys
import threading
import time

import pytest

from vimserve.loadtests.common.process import descendants, thread_cpu_seconds, usage
from vimserve.server.telemetry.threads import name_thread


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


def test_processor_time_of_threads_by_their_names():
    ready, stop = threading.Barrier(3), threading.Event()

    def work(burn_s):
        name_thread("a busy thread")
        end = time.thread_time() + burn_s
        while time.thread_time() < end:
            pass
        ready.wait()
        stop.wait()

    threads = [threading.Thread(target=work, args=(burn_s,)) for burn_s in (0.1, 0.2)]
    for thread in threads:
        thread.start()
    ready.wait()
    used = thread_cpu_seconds(os.getpid())
    stop.set()
    for thread in threads:
        thread.join()
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert 0.3 - 2 * tick <= used["a busy thread"] <= 0.3 + 0.1
    assert set(used) - {"a busy thread"}
    assert "a busy thread" not in thread_cpu_seconds(os.getpid())


def test_descendants_are_children_and_theirs():
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    before = set(descendants(os.getpid()))
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE) as process:
        while len(found := set(descendants(os.getpid())) - before) < 2:
            time.sleep(0.01)
        assert process.pid in found
        assert set(descendants(process.pid)) == found - {process.pid}
        process.communicate(b"\n")
    assert process.pid not in descendants(os.getpid())
