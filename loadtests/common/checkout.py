"""Where the tools look for files of the repository, and what they do without one."""

import subprocess
from pathlib import Path

# The root of the repository; of an installed package, a folder with nothing of it but the package.
ROOT = Path(__file__).resolve().parents[2]


def results_folder() -> Path:
    """Where results go by default: ``loadtests/results`` if that exists in the current folder, as
    in a checkout, else the current folder.
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
