"""What else the machine did, with made-up accounts and with a real process."""

import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from vimserve.loadtests.compare import disturbance
from vimserve.loadtests.compare.disturbance import Disturbance, Product, Watch


@pytest.mark.parametrize(
    ("seen", "disturbed"),
    [
        (Disturbance(20.0, 0.0, 0.0), False),
        (Disturbance(25.0, 0.05, 0.03), False),
        (Disturbance(27.0, 0.0, 0.0), True),
        (Disturbance(20.0, 0.5, 0.0), True),
        (Disturbance(20.0, 0.0, 0.3), True),
    ],
)
def test_each_sign_is_enough(seen, disturbed):
    assert seen.disturbed(best_product_ms=20.0) == disturbed


def test_others_is_what_is_busy_and_not_ours(monkeypatch):
    accounts = iter(
        [
            (10.0, {"user": 100.0, "nice": 5.0, "system": 20.0, "steal": 1.0}, [3.0, 4.0]),
            (14.0, {"user": 104.0, "nice": 6.0, "system": 21.0, "steal": 3.0}, [4.0, 5.0]),
        ]
    )

    def now():
        seconds, system, own = next(accounts)
        monkeypatch.setattr(time, "monotonic", lambda: seconds)
        monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(**system))
        monkeypatch.setattr(disturbance, "_own_seconds", lambda: own)
        return real()

    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)

    real = disturbance._now
    monkeypatch.setattr(disturbance, "_now", now)
    watch = Watch()
    # Six processor seconds, two of them ours, in four seconds of two processors.
    assert watch.disturbance(20.0) == Disturbance(20.0, others=0.5, steal=0.25)


def test_our_processes_are_not_others():
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    before = sum(disturbance._own_seconds())
    command = [sys.executable, "-c", burn]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert sum(disturbance._own_seconds()) >= before + 0.25
        process.communicate(b"\n")


def test_the_product_that_wakes_the_threads_does_not_count(monkeypatch):
    product = Product("cpu")
    assert product.ms() > 0
    times = iter([900.0, 5.0, 5.0, 5.0, 5.0, 6.0, 70.0, 80.0])
    monkeypatch.setattr(product, "_once_ms", lambda: next(times))
    assert product.ms() == 5.0
