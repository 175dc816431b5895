"""Several machines, as far as one can be several: nodes of Ray, each with an address of its own."""

import importlib
import re
import signal
import socket
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager

import httpx2
import psutil

from tests.patience import PATIENCE_S, wait_until
from tests.processes import Command
from tests.server.cluster.weights import write
from vimserve.server.__main__ import main

HEAD, OTHER = "127.0.0.1", "127.0.0.2"
TOO_FEW = "enough for 1"
START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")


@contextmanager
def node(address, *flags):
    """A node of Ray with one CPU, which ends with the block."""
    flags = (f"--node-ip-address={address}", "--num-cpus=1", *flags)
    process = psutil.Popen([*START, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        family = [process, *process.children(recursive=True)]
        for one in family:
            one.kill()
        psutil.wait_procs(family, PATIENCE_S)


def listens(address):
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


@contextmanager
def cluster(address, weights, log):
    """The client of a cluster of two replicas in that of Ray; its log is added to ``log``."""
    flags = (f"--ray-address={address}", "--replicas=2", "--threads=1", "--port=0")
    line = TOO_FEW
    while TOO_FEW in line:  # the second node has not joined yet
        with Command("cluster", f"--model=small={weights}", *flags) as command:
            while (line := command.log.readline()) and TOO_FEW not in line:
                if found := re.search(r"listening on (\S+),", line):
                    reading = threading.Thread(target=lambda: log.extend(command.log))
                    reading.start()
                    with httpx2.Client(base_url=found[1], timeout=PATIENCE_S) as client:
                        yield client
                    command.send_signal(signal.SIGTERM)
                    reading.join(PATIENCE_S)
                    return
    raise AssertionError(line)


def test_replicas_of_several_nodes(picture, encode, tmp_path, monkeypatch, capsys):
    weights = tmp_path / "small.pth"
    write(weights, label=0)
    with socket.create_server((HEAD, 0)) as free:
        address = "{}:{}".format(*free.getsockname())
    log: list[str] = []
    first = ("--head", f"--port={address.split(':')[1]}", "--include-dashboard=false")
    with node(HEAD, *first):
        wait_until(lambda: listens(address))
        with node(OTHER, f"--address={address}"), cluster(address, weights, log) as client:
            wait_until(lambda: log and sum("has joined, at " in line for line in log) == 2)
            joined = re.findall(r"replica (\w+) has joined, at ([\d.]+):", "".join(log))
            hosts = {host for _, host in joined}
            assert OTHER in hosts
            assert len(hosts) == 2  # Ray calls the head by an address that others reach too
            image = encode(picture(48, 64))
            left = {name for name, _ in joined}
            while left:
                assert client.post("/v1/classify", content=image).status_code == 200
                routed = re.findall(r'routed_total{.*replica="(\w+)"', client.get("/metrics").text)
                left -= {*routed}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Ray's own, at its import
                ray = importlib.import_module("ray")
                monkeypatch.setattr(ray, "__version__", "2.59.0")
                assert (
                    main(["cluster", "--model=demo", "--port=0", f"--ray-address={address}"]) == 1
                )
            said = capsys.readouterr().err
            assert said.startswith("vimserve: Ray cannot be used: Version mismatch: ")
            assert said.count("\n") == 1
    assert not listens(address)
