"""What the tools need of the repository, and what they do where there is none."""

import subprocess
from pathlib import Path

# The root of the repository. For an installed package it is a folder that only has the package.
ROOT = Path(__file__).resolve().parents[2]


def results_folder() -> Path:
    """The folder for results: ``loadtests/results`` if the current folder has that, as a checkout
    does, otherwise the current folder.
    """
    folder = Path("loadtests", "results")
    return folder if folder.is_dir() else Path()


def commit() -> str:
    """The commit that is checked out, with ``-dirty`` if files differ from it; or ``unknown``."""
    if not (ROOT / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
