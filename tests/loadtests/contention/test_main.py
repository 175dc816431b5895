import json
import os
import time
from contextlib import contextmanager

import pytest

from vimserve.loadtests.common.process import cpu_seconds
from vimserve.loadtests.contention import __main__ as contention
from vimserve.loadtests.contention import disturb
from vimserve.loadtests.contention.compare import ADAPTED, ALL, ONE, Compared, Turn
from vimserve.loadtests.contention.disturb import Disturbance, busy_processes, quota_group
from vimserve.model import cpus


def test_busy_processes_compute_until_the_end():
    with busy_processes(2) as started:
        while min(map(cpu_seconds, started)) == 0:
            time.sleep(0.01)
    for pid in started:
        with pytest.raises(OSError, match=str(pid)):
            cpu_seconds(pid)


def test_ratios_are_taken_round_by_round():
    compared = Compared(Disturbance("alone"), 224)
    compared.turns = {
        ONE: [Turn([0.1, 0.3], [1, 1]), Turn([0.4], [1])],
        ALL: [Turn([0.1], [2]), Turn([0.1], [2])],
        ADAPTED: [Turn([0.1], [2]), Turn([0.2], [1])],
    }
    assert compared.ratios(ADAPTED, ONE) == pytest.approx([0.5, 0.5])
    assert compared.ratios(ADAPTED, ALL) == pytest.approx([1, 2])
    assert compared.threads(ADAPTED) == 1.5
    assert compared.mean_ms(ONE) == pytest.approx(300)


@pytest.fixture
def own_group(monkeypatch, tmp_path):
    monkeypatch.setattr(disturb, "cpu_groups", lambda: iter([tmp_path]))
    return tmp_path


def test_a_quota_in_either_version(own_group, monkeypatch):
    # A folder of the kernel's comes with its files and goes with them.
    monkeypatch.setattr("pathlib.Path.rmdir", lambda folder: os.rename(folder, folder.parent / "x"))
    (own_group / "cgroup.subtree_control").write_text("cpu memory\n")
    with quota_group(1.5) as group:
        assert (group / "cpu.max").read_text() == "150000 100000"
    assert not group.exists()
    (own_group / "cpu.cfs_quota_us").write_text("-1\n")
    (own_group / "x").rename(own_group / "y")
    with quota_group(0.5) as group:
        assert list(cpus._quotas(group)) == [0.5]


def test_without_the_right_to_make_a_group_there_is_none(own_group):
    with pytest.raises(OSError, match="no control group here"), quota_group(1):
        pass


def test_the_tables_and_the_file(tmp_path, capsys, monkeypatch):
    @contextmanager
    def refuse(cpus):
        raise PermissionError(f"no quota of {cpus}")
        yield

    monkeypatch.setattr("vimserve.loadtests.contention.compare.quota_group", refuse)
    file = tmp_path / "report.json"
    few = ["--model", "demo", "--size", "64", "--rounds", "1", "--seconds", "0.01"]
    two = ["--beside", "one busy", "--beside", "quota 1.0"]

    assert contention.main([*few, *two, "--json", str(file)]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert "64 pixels" in lines[2]
    assert [line[12:26].strip() for line in lines[3:6]] == [ONE, ALL, ADAPTED]
    assert lines[6] == "quota 1.0   left out: no quota of 1.0"
    (measured,) = json.loads(file.read_text())["measured"]
    assert measured["disturbance"] == {"name": "one busy", "busy": 1, "quota": None}
    for turns in measured["turns"].values():
        assert len(turns[0]["seconds"]) == len(turns[0]["threads"]) > 0
    assert set(measured["turns"][ONE][0]["threads"]) == {1}
