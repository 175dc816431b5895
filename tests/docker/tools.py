"""Files of the deployment, and programs that read them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.paths import ROOT
from tests.patience import PATIENCE_S

DOCKER = ROOT / "docker"


def run(*command: str, **options: Any) -> str:
    """What it prints; it must succeed."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str) -> str:
    """A program that is installed beside Python."""
    return str(Path(sys.executable).with_name(name))
