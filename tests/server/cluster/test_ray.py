"""The life of a cluster on Ray: it grows, loses a replica, gets new weights, shrinks and ends.

Ray takes long to start, so all of it is one test. What it waits for are events, however late.
"""

import re
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager

import httpx2
import psutil
import pytest

from tests.patience import PATIENCE_S, wait_until
from tests.processes import Command
from tests.server.cluster.weights import write
from vimserve.model.cpus import usable_cpus

CLIENTS = 3
# So that the replicas that start have CPUs too.
PAUSE_S = 0.05
TOO_SLOW = "timed out during startup"
LOST = "urn:vimserve:problem:replica-lost"


@contextmanager
def family(command):
    """Let no process of Ray stay behind if the test fails."""
    process = psutil.Process(command._process.pid)
    try:
        yield
    except BaseException:
        for one in [process, *process.children(recursive=True)]:
            one.kill()
        raise


class Load:
    """Clients that send one picture after another."""

    def __init__(self, url, image):
        self.answers: Counter[object] = Counter()
        self._url = url
        self._image = image
        self._ended = threading.Event()

    def send(self):
        with httpx2.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            while not self._ended.is_set():
                answer = client.post("/v1/classify?resolution=native", content=self._image)
                body = answer.json()
                if answer.status_code == 200:
                    what = body["results"][0]["predictions"][0]["index"]
                else:
                    what = body["type"]
                self.answers[answer.status_code, what] += 1
                time.sleep(PAUSE_S)

    def sees_only(self, what):
        """Whether the next answers are all such."""
        before = self.answers.copy()
        wait_until(lambda: self.answers[what] > before[what] + 10 * CLIENTS)
        return {*(self.answers - before)} == {what}

    @contextmanager
    def going_on(self):
        threads = [threading.Thread(target=self.send) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(PATIENCE_S)


@contextmanager
def started(*arguments):
    """The command and its address. Ray gives up after 30 s, which a busy machine may need."""
    log = TOO_SLOW
    while TOO_SLOW in log:
        log = ""
        with Command("cluster", *arguments) as command, family(command):
            while line := command.log.readline():
                log += line
                if found := re.search(r"listening on (http://\S+),", line):
                    # What it says from now on must not fill the pipe.
                    threading.Thread(target=command.log.read).start()
                    yield command, found[1]
                    return
    raise AssertionError(log)


class Cluster:
    def __init__(self, command, url):
        self.url = url
        self.client = httpx2.Client(base_url=self.url, timeout=PATIENCE_S)
        self.process = psutil.Process(command._process.pid)

    def ready(self):
        return self.client.get("/readyz").status_code == 200

    def changes(self):
        pattern = r'vimserve_cluster_replica_changes_total{change="(\w+)",group="all"} (\d+)'
        found = re.findall(pattern, self.client.get("/metrics").text)
        return Counter({change: int(number) for change, number in found})

    def serving(self):
        found = re.findall(
            r"^vimserve_cluster_queue_seconds{", self.client.get("/metrics").text, re.M
        )
        return len(found)

    def replicas(self):
        children = self.process.children(recursive=True)
        return [one for one in children if one.cmdline()[0].startswith("ray::ServeReplica")]


@pytest.fixture
def image(picture, encode):
    return encode(picture(600, 600), "JPEG")


@pytest.mark.skipif(usable_cpus() < 2, reason="two replicas need a CPU each")
def test_the_life_of_a_cluster(tmp_path, image):
    weights = tmp_path / "small.pth"
    write(weights, label=0)
    flags = ["--replicas=1-2", "--scale-seconds=0.0001", "--scale-down-after=10", "--port=0"]
    with started("--model", f"small={weights}", *flags) as (command, url):
        cluster = Cluster(command, url)
        wait_until(cluster.ready)
        load = Load(cluster.url, image)
        with load.going_on():
            wait_until(lambda: cluster.serving() == 2)
            assert {*load.answers} == {(200, 0)}

            victim = cluster.replicas()[0]
            victim.kill()
            wait_until(lambda: cluster.changes()["lost"] == 1)
            wait_until(lambda: cluster.serving() == 2)
            assert {*load.answers} <= {(200, 0), (503, LOST)}
            assert load.answers[503, LOST] <= CLIENTS

            refused, changes = load.answers[503, LOST], cluster.changes()
            write(weights, label=1)
            command.send_signal(signal.SIGHUP)
            wait_until(lambda: load.answers[200, 1])
            wait_until(lambda: load.sees_only((200, 1)))
            assert cluster.changes() == changes  # those that ran have read them
        assert {*load.answers} <= {(200, 0), (200, 1), (503, LOST)}
        assert load.answers[503, LOST] == refused
        wait_until(lambda: cluster.serving() == 1)
        assert cluster.changes()["left"] >= 1
        assert cluster.client.post("/v1/classify", content=image).status_code == 200

        others = cluster.process.children(recursive=True)
        assert others
        command.send_signal(signal.SIGTERM)
        assert psutil.wait_procs(others, PATIENCE_S)[1] == []
        command._process.join(PATIENCE_S)
        assert command._process.exitcode == 0
        cluster.client.close()
