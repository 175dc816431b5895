"""Scenes of any size at constant memory: peak memory and speed by size, and a run that is killed.

``python -m vimserve.loadtests.scenes FOLDER`` makes square GeoTIFFs of four bands of 16 bits in the
folder, unless they are there, and segments them. ``--model cheap`` is a segmenter of random weights
that takes next to no time, for all that depends on the size of a scene alone.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vimserve.loadtests.common.options import count, positive
from vimserve.loadtests.scenes.make import FLAGS, make_scene
from vimserve.loadtests.scenes.run import Outcome, run
from vimserve.server.scenes.grid import grid_of

CHEAP = "cheap"
MULTIPLE = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each size.

    Returns:
        0, or 1 if a run fails, or one that was killed goes on to other bytes.
    """
    options = _parser().parse_args(arguments)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    model = options.model
    if model == CHEAP:
        from vimserve.loadtests.scenes.models import write_cheap

        write_cheap(folder / "cheap.safetensors")
        model = f"{CHEAP}={folder / 'cheap.safetensors'}"
    if options.bare:
        command = [sys.executable, "-m", "vimserve.loadtests.scenes.models", model]
        command += [str(options.window), str(options.bare)]
        bare = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)  # noqa: S603
        of = ", ".join(f"{rate:.2f} by {together}" for together, rate in bare.items())
        print(f"bare model, windows/s: {of}", flush=True)
    ok = True
    for side in options.sides or (5000, 20_000):
        scene = folder / f"{side}.tif"
        if not scene.exists():
            make_scene(scene, side)
        size = f"{scene.stat().st_size / 1e6:.0f} MB"
        flags = ["--task", "segment", "--model", model, "--window", str(options.window)]
        flags += ["--overlap", str(options.overlap), *FLAGS, str(scene)]
        grid = grid_of((side, side), options.window, options.overlap, MULTIPLE)
        output = folder / f"{side}-mask.tif"
        outcome = run(flags, output)
        print(f"{side}x{side}, {size}: {_line(outcome, len(grid.lefts))}", flush=True)
        ok &= outcome.status == 0
        if options.kill:
            other = folder / f"{side}-killed.tif"
            killed = run(flags, other, kill_at=len(grid.tops) // 2)
            again = run(flags, other)
            same = other.read_bytes() == output.read_bytes()
            print(
                f"  killed with {killed.rows} of {len(grid.tops)} rows (status {killed.status}), "
                f"then {_line(again, len(grid.lefts))}; {'the same' if same else 'OTHER'} bytes",
                flush=True,
            )
            ok &= same
    return 0 if ok else 1


def _line(outcome: Outcome, columns: int) -> str:
    rate = outcome.rows_a_second
    speed = "-" if rate is None else f"{rate * columns:.2f}"
    return (
        f"{outcome.seconds:.0f} s, {speed} windows/s, at most {outcome.peak_bytes / 1e6:.0f} MB, "
        f"status {outcome.status}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.scenes", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="for scenes and masks")
    parser.add_argument(
        "--sides", type=count, action="append", metavar="PIXELS",
        help="of a scene, repeatable [5000, 20000]",
    )  # fmt: skip
    parser.add_argument(
        "--model", default=CHEAP, help=f"{CHEAP} or what predict takes [%(default)s]"
    )
    parser.add_argument("--window", type=count, default=512, help="in pixels [%(default)s]")
    parser.add_argument("--overlap", type=int, default=128, help="in pixels [%(default)s]")
    parser.add_argument(
        "--bare", type=positive, metavar="SECONDS", help="measure the bare model for so long, too"
    )
    parser.add_argument(
        "--kill", action="store_true", help="kill another run half-way, and let it go on"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
