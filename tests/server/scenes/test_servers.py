"""Windows are shared among servers, none is lost, and what is wrong is said on one line."""

import asyncio
import itertools
from contextlib import suppress

import httpx2
import pytest

from tests.server.scenes.fake_time import now, run
from tests.server.scenes.fleet import (
    Fleet,
    after,
    always,
    dead,
    fine,
    refusal,
    refused,
    scored,
    scores_of,
    window,
)
from vimserve.server.scenes.remote import FAILURES, Servers
from vimserve.server.scenes.remote.pool import TRIES
from vimserve.server.scenes.remote.server import ANSWER_S, LONGEST_PAUSE_S
from vimserve.server.scenes.remote.trouble import Refused


def test_the_load_is_shared():
    fleet = Fleet("a", "b")
    assert run(fleet.answers(32, in_flight=4)) == 4
    assert [server.busiest for server in fleet.values()] == [4, 4]
    assert [len(server.asked) for server in fleet.values()] == [16, 16]


def test_who_is_faster_gets_more():
    async def slow(number):
        await asyncio.sleep(9)
        return scored(scores_of(number))

    fleet = Fleet("a", "b")
    fleet["b"].script = slow
    assert run(fleet.answers(40, in_flight=4)) == 9
    assert [len(server.asked) for server in fleet.values()] == [36, 4]


def test_one_dies_in_the_middle():
    fleet = Fleet("a", "b")

    async def die(number):
        await asyncio.sleep(0.5)
        fleet["b"].models = httpx2.ConnectError("All connection attempts failed")
        raise httpx2.ReadError("Connection reset by peer")

    fleet["b"].script = after(4, die)
    run(fleet.answers(60, in_flight=4))
    times = fleet.times()
    assert sorted(times) == list(range(60))
    assert sum(times.values()) == 60 + 4  # those that it had when it died
    assert len(fleet["b"].asked) == 8
    assert len(fleet["b"].listed) > 3, "it is never tried again"


def test_one_that_comes_back_shows_its_model_and_gets_one_window_at_first():
    fleet = Fleet("a", "b")
    fleet["b"].script = after(4, after(1, fine, dead))
    run(fleet.answers(80, in_flight=4))
    b = fleet["b"]
    died = 1.0
    back, then = [moment for moment, _ in b.asked if moment > died][:2]
    assert died + 0.25 <= back <= died + 0.5
    assert [moment for moment in b.listed if moment > 0] == [back]
    assert then == back + 1
    assert b.busiest == 4
    assert b.asked[-1][0] > then


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "headers",
    [{"Retry_After": "7"},
     {"Retry_After": "Sun, 06 Nov 1994 08:49:44 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}],
    ids=["seconds", "date"],
)  # fmt: skip
def test_a_busy_server_is_left_alone_as_long_as_it_wants(status, headers):
    fleet = Fleet("a", "b")
    fleet["b"].script = after(4, fine, always(refusal(status, **headers)))
    run(fleet.answers(60, in_flight=4))
    moments = sorted({moment for moment, _ in fleet["b"].asked})
    assert moments[:2] == [0, 7]
    assert sorted(fleet.times()) == list(range(60))
    assert len(fleet["b"].listed) == 1, "it has not failed"


FAR = "Sun, 06 Nov 1994 08:49:37 +99999999999999999"


@pytest.mark.parametrize("header", [None, "soon", "-3", "Sun, 99 Nov 1994 08:49:37 GMT", FAR])
def test_without_a_time_that_can_be_read_the_pauses_get_longer(header):
    fleet = Fleet("a")
    headers = {} if header is None else {"Retry_After": header}
    fleet["a"].script = after(4, fine, always(refusal(429, **headers)))
    run(fleet.answers(1))
    moments = [moment for moment, _ in fleet["a"].asked]
    pauses = [then - moment for moment, then in itertools.pairwise(moments)]
    for pause, longest in zip(pauses, (0.5, 1, 2, 4), strict=True):
        assert longest / 2 <= pause <= longest + 1e-6


def test_the_longest_pause():
    fleet = Fleet("a")
    fleet["a"].script = after(1, fine, always(refusal(429, Retry_After="9" * 400)))
    assert run(fleet.answers(1)) == 301


def test_when_none_is_left_it_says_why():
    fleet = Fleet("a", "b")
    fleet["a"].script = dead
    fleet["b"].script = always(refusal(503, "the server is stopping"))

    async def later():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)
            fleet["a"].models = httpx2.ConnectError("All connection attempts failed")

    async def both():
        task = asyncio.create_task(later())
        try:
            await fleet.answers(20)
        finally:
            assert now() < TRIES * LONGEST_PAUSE_S
            await task

    with pytest.raises(Refused) as caught:
        run(both())
    assert str(caught.value) == (
        f"no server answers any more, tried {TRIES} times: http://a: All connection attempts "
        "failed; http://b: 503 the server is stopping"
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422])
def test_a_wrong_request_is_not_repeated(status):
    fleet = Fleet("a", "b")
    for server in fleet.values():
        server.script = always(refusal(status, "the window is too large;\nat most 3"))
    detail = refused(fleet)
    assert detail == f"http://a answers {status} the window is too large; at most 3"
    assert sum(fleet.times().values()) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_what_fails_on_one_server_is_asked_of_another(status):
    fleet = Fleet("a", "b")
    fleet["a"].script = always(refusal(status))
    run(fleet.answers(1))
    assert [server.windows for server in fleet.values()] == [[0], [0]]


def test_a_window_at_which_all_servers_fail():
    async def script(number):
        return refusal(500, "the scores are not finite") if number == 5 else await fine(number)

    fleet = Fleet("a", "b")
    for server in fleet.values():
        server.script = script
    detail = refused(fleet, 200)
    assert detail.startswith(f"servers failed {FAILURES} times at one window, the last time http")
    assert detail.endswith(": 500 the scores are not finite")
    assert fleet.times()[5] == FAILURES


def test_a_server_that_never_answers():
    async def silent(number):
        await asyncio.sleep(1e6)
        raise AssertionError

    fleet = Fleet("a", "b")
    fleet["a"].script = silent
    assert run(fleet.answers(1)) == ANSWER_S + 1


def test_cancelled_windows_leave_room_for_others():
    async def cancel():
        fleet = Fleet("a")
        async with fleet.servers(in_flight=2) as servers:
            await servers.described()
            tasks = [asyncio.create_task(servers.ask(window(i))) for i in range(6)]
            await asyncio.sleep(0.5)
            for task in tasks[:4]:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in ended[:4]] == [asyncio.CancelledError] * 4
        assert fleet["a"].windows == [0, 1, 4, 5]

    run(cancel())


def test_who_gets_the_key():
    from pydantic import SecretStr

    fleet = Fleet("a", "b")
    key = SecretStr("correct-horse-battery")
    run(fleet.answers(8, key=key))
    sent = [headers for server in fleet.values() for headers in server.headers]
    assert {headers["Authorization"] for headers in sent} == {"Bearer correct-horse-battery"}
    fleet["b"].script = always(refusal(401))
    assert "horse" not in refused(fleet, 8, key=key)


@pytest.mark.parametrize(
    "url", ["host:8000", "ftp://host", "http://", "http://a b", "http://user:secret@host",
            "http://host/?key=1", ""],
)  # fmt: skip
def test_what_is_no_server(url):
    with pytest.raises(ValueError, match="--server must be http://HOST:PORT or") as caught:
        Servers([url], None, "segment", {})
    assert "secret" not in str(caught.value)


def test_a_server_that_is_named_twice_counts_once():
    servers = Servers(["http://a/", "http://a"], None, "segment", {})
    assert servers.at_once == 8
