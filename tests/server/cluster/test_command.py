"""What the command says of settings that cannot be: one line."""

import importlib
import socket
import subprocess
import sys
import warnings

import pytest

from tests.patience import PATIENCE_S
from vimserve.server.__main__ import main


@pytest.fixture(scope="module", autouse=True)
def ray_machines():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, at its import
        importlib.import_module("vimserve.server.cluster.ray_serve")
        return importlib.import_module("vimserve.server.cluster.ray_machines")


@pytest.fixture
def said(capsys):
    """``said(flags)``: the line that the command ends with, and its exit status."""

    def run(*flags):
        status = main(["cluster", "--model", "demo", "--port", "0", *flags])
        error = capsys.readouterr().err
        assert error.startswith("vimserve: ")
        assert error.count("\n") == 1
        return status, error

    return run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--device=cuda", "--replicas=999"), "999 replicas need a GPU each, but there are "),
        (("--replicas=9999",), "9999 replicas with 1 CPU threads each do not fit"),
        (("--placement=vim-small=1",), "placement: there is no model 'vim-small'"),
        (("--replicas=some",), "replicas: a number of replicas is N, LEAST-MOST or auto"),
        (("--ray-address=here",), "ray-address: an address is HOST:PORT"),
        (("--ray-address=host:99999",), "no Ray cluster answers at host:99999"),
    ],
)
def test_what_cannot_be(said, flags, message):
    status, error = said(*flags)
    assert status == 1
    assert message in error


def test_a_cluster_that_does_not_answer(said):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    status, error = said(f"--ray-address=127.0.0.1:{port}")
    assert status == 1
    assert f"no Ray cluster answers at 127.0.0.1:{port}: " in error


def test_another_version_of_ray(said, monkeypatch, ray_machines):
    def init(**_):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9\n")

    monkeypatch.setattr(ray_machines.ray, "init", init)
    with socket.create_server(("127.0.0.1", 0)) as there:
        status, error = said(f"--ray-address=127.0.0.1:{there.getsockname()[1]}")
    assert status == 1
    assert "Ray cannot be used: Version mismatch: The cluster was started with: Ray: 2.9" in error


@pytest.mark.parametrize("absent", ["ray", "aiohttp"])
def test_without_the_extra(absent):
    """In a process of its own, which has imported nothing yet."""
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from vimserve.server.__main__ import main\n"
        "sys.exit(main(['cluster', '--ray-address=127.0.0.1:1']))"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "a cluster needs the extra ray: pip install 'vimserve[ray]'" in ran.stderr
