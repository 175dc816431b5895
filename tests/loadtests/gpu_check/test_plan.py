"""The whole run on a stand-in for the device: what comes in which order, and what the report has.

So no minute of a real device goes to a typo. The tests of the parts check what the figures are.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.loadtests.gpu_check import rehearsal
from tests.paths import GOLDEN, ROOT
from tests.patience import PATIENCE_S
from vimserve.loadtests.gpu_check import plan
from vimserve.loadtests.gpu_check.gates import Gate
from vimserve.loadtests.gpu_check.sections import Clock

AVAILABLE = ("deit_tiny_224.npz", "seg_nano_128.npz", "seg_cases.json", "cases.json")
MEASURED = ("sweep", "fit", "kernels", "models", "buckets", "traces", "compiled")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What a rehearsal prints, and its report."""
    folder = tmp_path_factory.mktemp("golden")
    for name in AVAILABLE:
        (folder / name).symlink_to(GOLDEN / name)
    file = tmp_path_factory.mktemp("report") / "report.json"
    minutes = str(PATIENCE_S / 60)
    done = subprocess.run(
        [sys.executable, "-m", rehearsal.__name__, file, "--minutes", minutes, "--golden", folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(file.read_text())


def test_every_section_is_done_in_order(rehearsed: tuple[str, dict[str, Any]]) -> None:
    _, report = rehearsed
    assert report["state"] == "done"
    assert {entry["state"] for entry in report["sections"].values()} == {"done"}
    assert not any("left_out" in entry for entry in report["sections"].values())
    names = list(report["sections"])
    assert names[0] == "machine"
    measured = [name for name in names if not name.startswith("gates")][1:]
    assert measured == list(MEASURED)
    before = names[1 : names.index("sweep")]
    assert {"gates bfloat16", "gates float32", "gates ragged", "gates deit_tiny_224"} <= set(before)
    assert "gates deit_small_224" in names[names.index("compiled") :]


def test_every_row_is_one_of_figures(rehearsed: tuple[str, dict[str, Any]]) -> None:
    _, report = rehearsed
    rows = report["rows"]
    assert all(rows[name] for name in MEASURED)
    assert [row for of in rows.values() for row in of if "error" in row and "gate" not in row] == []
    assert [row for of in rows.values() for row in of if row.get("red")] == []
    assert report["machine"]["device"] == "stand-in"
    assert "vim_tiny_224" in report["left_out"]

    walks = {"walk_states_ms", "carry_ms", "walk_outputs_ms", "walk_outputs_regs"}
    assert all(walks <= set(row) for row in rows["sweep"] if row["chunk"])
    assert {row["chunk"] for row in rows["sweep"]} >= {0, 8, 70, 128}
    kinds = {(row["model"], row["size"], row["images"] > 1, row["mode"]) for row in rows["models"]}
    assert kinds >= {
        (model, 32, many, mode)
        for model in ("vim-tiny", "deit-tiny")
        for many in (False, True)
        for mode in ("eager", "graphs")
    }
    assert [row["when"] for row in rows["buckets"] if "gate" not in row] == 2 * [
        "before recording", "after recording", "after all batches"
    ]  # fmt: skip
    assert {row["bucket"] for row in rows["buckets"] if "gate" in row}
    assert [row["mode"] for row in rows["compiled"]] == ["graphs", "compiled, graphs"]


def test_the_end_of_the_output_sums_up(rehearsed: tuple[str, dict[str, Any]]) -> None:
    output, report = rehearsed
    _, _, tables = output.partition("== schedules of the scan")
    for name in ("LONE_WARP", "TWO_WALKS", "LAUNCHES"):
        assert f"{name} = " in tables
    gates = [row for of in report["rows"].values() for row in of if "gate" in row]
    assert f"{len(gates)} gates, 0 red" in tables
    assert "Traceback" not in output


def test_further_gates_are_taken_from_their_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        @staticmethod
        def some_gates() -> list[Gate]:
            return [Gate("g", 2.0, 1.0)]

    monkeypatch.setattr("importlib.import_module", lambda name: Module)
    (job,) = plan.further_jobs("some_gates")
    assert [row["gate"] for row in job.rows(Clock(0))] == ["g"]


def test_further_gates_run_alone_and_only_if_they_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "FURTHER_GATES", ("gates", "no_such_gates"))
    _, *further = plan.gate_stages(GOLDEN)
    assert [[section.name for section in stage.sections] for stage in further] == [["gates gates"]]
