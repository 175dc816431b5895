"""Which wheels a machine without network needs."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from vimserve.loadtests.gpu_check import wheels
from vimserve.loadtests.gpu_check.wheels import PRESENT, needed, platforms


def names(pins: set[str]) -> set[str]:
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!]+", pin) for pin in pins), pins
    return {pin.partition("==")[0] for pin in pins}


def test_what_the_server_and_its_load_tests_need() -> None:
    found = names(needed("3.12", PRESENT))
    direct = {"fastapi", "uvicorn", "pydantic-settings", "python-multipart", "locust", "aiohttp"}
    indirect = {"starlette", "pydantic-core", "gevent", "greenlet", "psutil", "httptools"}
    assert direct | indirect <= found
    assert not found & {*PRESENT, "vimserve", "pytest-xdist", "sympy", "contourpy"}


def test_what_is_present_is_left_out_with_what_only_it_needs() -> None:
    found = names(needed("3.12", [*PRESENT, "Locust"]))
    assert not found & {"locust", "gevent", "flask"}
    assert "aiohttp" in found


def test_a_requirement_of_other_systems_or_pythons_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requires = {
        "vimserve": ["a", 'b; sys_platform == "win32"', 'c; python_version < "3.12"',
                     'd; extra == "loadtest"', 'e; extra == "dev"', "F_g[fast]>=1"],
        "f-g": ['h; extra == "fast"', 'i; extra == "slow"'],
    }  # fmt: skip
    monkeypatch.setattr(
        "importlib.metadata.distribution",
        lambda name: SimpleNamespace(version="1.0+cpu", requires=requires.get(name)),
    )
    assert needed("3.12", []) == {"a==1.0", "d==1.0", "f-g==1.0", "h==1.0"}
    assert needed("3.11", ["d", "f_g"]) == {"a==1.0", "c==1.0"}


def test_older_platforms_run_on_a_newer_one() -> None:
    tags = platforms("manylinux_2_28_x86_64")
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} <= set(tags)
    assert "manylinux_2_29_x86_64" not in tags
    assert "manylinux2014_aarch64" not in platforms("manylinux_2_12_aarch64")
    assert platforms("win_amd64") == ["win_amd64"]


def test_pip_is_asked_for_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> SimpleNamespace:
        commands.append(command)
        (tmp_path / f"{len(commands)}.whl").write_bytes(b"0" * 10**6)
        return SimpleNamespace(returncode=len(commands) // 3)

    monkeypatch.setattr("subprocess.run", run)
    arguments = [str(tmp_path), "--python", "3.13", "--platform", "manylinux_2_17_x86_64"]

    assert wheels.main(arguments) == 0

    download, own = commands
    assert {"download", "--no-deps", "--only-binary=:all:", "3.13"} <= set(download)
    assert "manylinux2014_x86_64" in download
    assert "wheel" in own
    assert capsys.readouterr().out == f"2 wheels, 2.0 MB in {tmp_path}\n"

    assert wheels.main(arguments) == 1
    assert capsys.readouterr().err == "wheels: pip download failed\n"
