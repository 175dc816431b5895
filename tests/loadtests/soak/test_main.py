"""The soak passes on the real server, and fails on servers that do wrong."""

import json
import math
import os
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from aiohttp import web

from tests.loadtests.soak import stub as stubs
from tests.loadtests.soak.stub import problem
from vimserve.loadtests.common.mix import KINDS, WORK
from vimserve.loadtests.soak import __main__ as soak
from vimserve.loadtests.soak import report, run

# No deadline and no limit that a slow machine might miss.
UNHURRIED = ["--timeout-ms", "60000", "--patience", "100"]


def test_a_real_server_far_beyond_its_capacity(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, "JUDGED_AFTER_S", math.inf)
    file = tmp_path / "soak.json"
    load = ["--overload", "10", "--seconds", "600", "--max-requests", "150", *UNHURRIED]
    status = soak.main([*load, "--json", str(file), "--url", server.url, "--pid", str(server.pid)])
    out = capsys.readouterr().out
    assert status == 0, out
    figures = json.loads(file.read_text())
    ends = figures["ends"]
    total = sum(sum(counts.values()) for counts in ends.values())
    assert figures["sent"] == total == 150
    work = sum(KINDS[kind] for kind in WORK) / sum(KINDS.values())
    assert figures["rate"] == pytest.approx(max(10 * figures["capacity"] / work, 1))
    assert ends["single"]["answered"] > 10
    assert ends["single"]["429 queue-full"] > 10
    assert set(ends["bomb"]) == {"413 image-too-large"}
    assert set(ends["gone, sending"]) == {"abandoned"}
    assert figures["settings"]["url"] == server.url
    assert figures["snapshots"][0]["resident_bytes"] > 0
    assert f"{total} sent" in out
    assert "over 1024" in out


def run_soak(stub, *flags):
    load = ["--rate", "500", "--seconds", "60", "--max-requests", "60"]
    return soak.main(
        ["--url", stub.url, *load, "--timeout-ms", "4000", "--patience", "100", *flags]
    )


def loaded(request):
    """Whether it is not one of the requests before or after the load."""
    return request.headers["X-Request-Priority"] != "1"


def test_a_server_that_does_everything_right(stub, capsys):
    assert run_soak(stub) == 0, capsys.readouterr().out


def replace_with(respond):
    """A ``good`` that answers with ``respond`` under load."""

    def install(stub):
        async def good(request, images):
            if loaded(request):
                return await respond(stub, request, images)
            return await stub.answer(request, images)

        stub.good = good

    return install


async def wrong_scores(stub, request, images):
    return await stub.answer(request, images, first=0.502)


async def another_number_of_images(stub, request, images):
    return await stub.answer(request, images + 1)


async def failure(stub, request, images):
    return problem(request, 500, "model-failure")


async def hang_up(stub, request, images):
    request.transport.abort()


async def no_json(stub, request, images):
    return web.Response(text="yes", headers={"X-Request-Id": request.headers["X-Request-Id"]})


async def full_without_retry_after(stub, request, images):
    return problem(request, 429, "queue-full")


async def timeout_before_time(stub, request, images):
    return problem(request, 504, "request-timeout")


async def another_name(stub, request, images):
    answer = await stub.answer(request, images)
    answer.headers["X-Request-Id"] = "another"
    return answer


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (wrong_scores, "single: scores are wrong by 0.0020"),
        (another_number_of_images, "2 results or their classes do not match 1 images"),
        (failure, "single: 500 model-failure"),
        (hang_up, "no answer: ServerDisconnectedError"),
        (no_json, "an answer that cannot be read"),
        (full_without_retry_after, "429 with Retry-After ''"),
        (timeout_before_time, " s of 4000 ms"),
        (another_name, "200 for request 'another', not 'soak-"),
    ],
)
def test_a_server_that_does_wrong_under_load(respond, message, stub, capsys):
    replace_with(respond)(stub)
    assert run_soak(stub) == 1
    assert message in capsys.readouterr().out


def test_a_refusal_of_another_kind(stub, capsys, monkeypatch):
    monkeypatch.setattr(
        stubs,
        "problem",
        lambda request, status, slug: problem(
            request, 400 if slug == "corrupt-image" else status, slug
        ),
    )
    assert run_soak(stub) == 1
    assert "truncated: 400 corrupt-image" in capsys.readouterr().out


def test_a_server_that_keeps_something(stub, capsys):
    stub.inflight, stub.ready = 1, 503
    assert run_soak(stub) == 1
    out = capsys.readouterr().out
    assert "vimserve_inflight is 1 after the load" in out
    assert "/readyz says 503 after the load" in out


def test_a_server_that_refuses_everything(stub, capsys):
    stub.good = lambda request, images: failure(stub, request, images)
    assert run_soak(stub) == 1
    assert "a picture that is to be a reference was refused" in capsys.readouterr().err


def test_most_requests(stub, tmp_path):
    file = tmp_path / "soak.json"
    assert run_soak(stub, "--max-requests", "7", "--json", str(file)) == 0
    assert json.loads(file.read_text())["sent"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://example.org"], "must be on the loopback"),
        (["--url", "http://10.0.0.1:80"], "must be on the loopback"),
        (["--url", "https://127.0.0.1"], "must be on the loopback"),
        (["--url", "http://localhost:1", "--", "--model", "demo"], "exclude each other"),
        (["--rate", "0"], "--rate must be more than 0, not 0.0"),
        (["--seconds", "inf"], "--seconds must be more than 0, not inf"),
        (["--patience", "0"], "must be above 0 and finite, not 0"),
        (["--rate", "1", "--overload", "2"], "not allowed with"),
        (["--pid", "1"], "--pid goes with --url"),
    ],
)
def test_wrong_flags(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        soak.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_nobody_listens(capsys):
    assert soak.main(["--url", "http://127.0.0.1:9", "--seconds", "1"]) == 1
    assert "127.0.0.1" in capsys.readouterr().err


@pytest.fixture
def own_server(monkeypatch):
    """What a server that the soak starts itself is made to be."""
    server = SimpleNamespace(pid=os.getpid(), log="", status=0, error=None, flags=None)
    server.stop = lambda: server.status

    @contextmanager
    def serving(flags):
        if server.error:
            raise server.error
        server.flags = flags
        yield server

    monkeypatch.setattr(soak, "serving", serving)
    monkeypatch.setattr(run, "KEEP_ALIVE_S", 0)
    return server


def test_a_server_of_its_own_has_to_end_well(own_server, stub, capsys):
    own_server.url, own_server.status, own_server.log = stub.url, 3, "Traceback (most recent"
    load = ["--rate", "500", "--max-requests", "20", *UNHURRIED]
    assert soak.main([*load, "--", "--threads", "1"]) == 1
    assert own_server.flags == ["--threads", "1"]
    out = capsys.readouterr().out
    assert "FAILED: the server ended with status 3" in out
    assert "FAILED: the server's log has a traceback" in out


def test_a_server_that_does_not_start(own_server, capsys):
    own_server.error = RuntimeError("the server did not become ready: no such model")
    assert soak.main(["--seconds", "1", "--", "--model", "resnet"]) == 1
    assert capsys.readouterr().err == f"soak: {own_server.error}\n"


def test_a_server_that_dies(stub, capsys, monkeypatch):
    """Its process goes, its port does not answer."""
    monkeypatch.setattr(run, "KEEP_ALIVE_S", 0)
    with subprocess.Popen(["sleep", "infinity"]) as process:

        async def die(stub, request, images):
            process.kill()
            request.transport.abort()

        replace_with(die)(stub)
        assert run_soak(stub, "--pid", str(process.pid)) == 1
    assert f"process {process.pid} has ended" in capsys.readouterr().out
