import json
from contextlib import nullcontext

import pytest

from vimserve.loadtests import litserve
from vimserve.loadtests.common.server import serving
from vimserve.loadtests.serving import __main__ as command
from vimserve.loadtests.serving import rounds
from vimserve.loadtests.serving.rounds import CONTESTANTS, LEFT, PARTS, Turn


def test_all_four_take_turns(server, tmp_path, capsys, monkeypatch):
    def begin(flags, *other):
        return serving(flags, *other) if other else nullcontext(server)

    monkeypatch.setattr(rounds, "serving", begin)
    report = tmp_path / "report.json"
    arguments = ["--sizes", "64", "--images", "2", "--rounds", "2", "--seconds", "0.1"]
    assert command.main([*arguments, "--clients", "3", "--json", str(report)]) == 0
    (table,) = json.loads(report.read_text())
    assert table["sizes"] == 64
    order = [turn["contestant"] for turn in table["turns"]]
    assert order == [*CONTESTANTS, *reversed(CONTESTANTS)]
    for turn in table["turns"]:
        assert turn["images_per_second"] > 0
        asked = turn["contestant"] in (rounds.SERVER, rounds.LITSERVE)
        assert set(turn["cpu_ms"]) == {*LEFT, *(PARTS if asked else ["model"])}
        assert all(cpu_ms >= 0 for cpu_ms in turn["cpu_ms"].values())
        assert (turn["small_ms"] is not None) == asked
    lines = capsys.readouterr().out.splitlines()
    assert [line[:14].rstrip() for line in lines[-4:]] == list(CONTESTANTS)


def test_the_parts_of_a_servers_processor_time(server):
    used = rounds._cpu_s(server.pid)
    assert set(used) <= set(PARTS)
    assert used["model"] > 0  # it has warmed up
    assert used["others"] > 0


def test_ratios_are_of_rounds():
    rates = [("packed", 10.0), ("server", 8.0), ("server", 15.0), ("packed", 20.0)]
    turns = [Turn(contestant, rate, {}) for contestant, rate in rates]
    assert command.ratios(turns, "server") == [0.8, 0.75]


def test_the_sizes_are_of_the_trace_or_square():
    trace = command._images("mixed", 3)
    assert [(one.height, one.width) for one in trace] == [(512, 512), (336, 672), (144, 240)]
    assert {(one.height, one.width) for one in command._images(1248, 60)} == {(1248, 1248)}


def test_a_server_that_answers_otherwise(monkeypatch, capsys):
    def fail(*arguments):
        raise RuntimeError("the server's score is off")

    monkeypatch.setattr(command, "run_rounds", fail)
    assert command.main([]) == 1
    assert "serving: the server's score is off" in capsys.readouterr().err


def test_litserve_with_another_model():
    flags = ["--model", "resnet"]
    with (
        pytest.raises(RuntimeError, match="did not become ready"),
        serving(flags, litserve.COMMAND, litserve.READY),
    ):
        pass
