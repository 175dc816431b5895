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
    burnt_s, in_all_s = [], []

    def work(burn_s):
        name_thread("a busy thread")
        while time.thread_time() < burn_s:
            pass
        burnt_s.append(time.thread_time())
        ready.wait()
        stop.wait()
        in_all_s.append(time.thread_time())

    threads = [threading.Thread(target=work, args=(burn_s,)) for burn_s in (0.1, 0.2)]
    for thread in threads:
        thread.start()
    ready.wait()
    used = thread_cpu_seconds(os.getpid())
    stop.set()
    for thread in threads:
        thread.join()
    # The kernel rounds each thread's time, in user mode and in its own, to a clock tick.
    rounding = 4 / os.sysconf("SC_CLK_TCK")
    assert sum(burnt_s) - rounding <= used["a busy thread"] <= sum(in_all_s) + rounding
    assert set(used) - {"a busy thread"}
    while "a busy thread" in thread_cpu_seconds(os.getpid()):  # it ends a moment after join
        time.sleep(0.01)


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
