"""The commands and programs of the README work as they stand."""

import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

README = (ROOT / "README.md").read_text()
PORT = 8431
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [code for language, code in BLOCKS if language == "sh" and "make serve" not in code]
PROGRAMS = [code for language, code in BLOCKS if language == "python"]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """What `make serve` starts."""
    command = [sys.executable, "-m", "vimserve.server", "serve", "--port", str(PORT)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=5).close()
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.1)
        yield
        process.terminate()
        assert process.wait(30) == 0


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) >= 4
    assert PROGRAMS


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README calls curl")
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split("\n")[0][:60])
def test_commands(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.symlink_to(ROOT / "model")
    line = command.replace("curl ", "curl --fail --silent --show-error ")
    line = line.replace("127.0.0.1:8000", f"127.0.0.1:{PORT}")
    line = re.sub(r"^vimserve ", f"{sys.executable} -m vimserve.server ", line)
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or any(file.stat().st_size for file in {*tmp_path.iterdir()} - {folder})


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(program: str) -> None:
    scope: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), scope)  # noqa: S102
    assert scope["logits"].shape == (2, 1000)  # type: ignore[attr-defined]
