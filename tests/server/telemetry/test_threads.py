import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vimserve.server.telemetry import threads
from vimserve.server.telemetry.threads import name_thread

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads names in /proc")


def own_name():
    return Path("/proc/self/task", str(threading.get_native_id()), "comm").read_text().strip()


def test_only_the_calling_thread_gets_the_name():
    before = own_name()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(name_thread, "decode").result()
        assert pool.submit(own_name).result() == "decode"
    assert own_name() == before


def test_a_system_without_names(monkeypatch, tmp_path):
    missing = tmp_path / "thread-self" / "comm"
    monkeypatch.setattr(threads, "Path", lambda _: missing)
    name_thread("decode")
    assert not missing.exists()
