import os
import subprocess
import sys

from tests.paths import ROOT
from tests.patience import PATIENCE_S, wait_until


def status(port):
    return subprocess.run(
        [sys.executable, "docker/healthcheck.py"], cwd=ROOT, capture_output=True, check=False,
        timeout=PATIENCE_S, env=os.environ | {"PYTHONPATH": str(ROOT), "VIMSERVE_PORT": port},
    ).returncode  # fmt: skip


def test_a_ready_server(url):
    # It gives a server four seconds, and is asked again and again.
    wait_until(lambda: status(url.rpartition(":")[2]) == 0)


def test_no_server():
    assert status("9") == 1
