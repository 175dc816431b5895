import os
import subprocess
import sys

import pytest

from tests.paths import ROOT
from tests.patience import PATIENCE_S


@pytest.mark.parametrize(("resolution", "status"), [("", 0), ("64", 0), ("wide", 2)])
def test_an_empty_variable_is_an_unset_one(resolution, status):
    variables = {"VIMSERVE_LOAD_RESOLUTION": resolution, "VIMSERVE_LOAD_TASK": ""}
    done = subprocess.run(
        [sys.executable, "-m", "locust", "--locustfile", "loadtests/locustfile.py", "--list"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert ("VimUser" in done.stdout) == (status == 0)
