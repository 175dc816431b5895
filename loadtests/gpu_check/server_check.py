"""Run the server's comparison and a soak on a GPU, on a machine without network.

``python -m vimserve.loadtests.gpu_check.server_check WHEELS`` installs the wheels that
``vimserve.loadtests.gpu_check.wheels`` has collected into a folder of their own, then runs
``loadtests.compare --device cuda --quick`` and ``loadtests.soak`` with them, each within its time.
Logs and reports are in one folder.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MINUTES = 1.0
COMPARE_MINUTES = 4.0
STOP_S = 20.0  # for a program to write what it has, once its time is over
BESIDES_S = 90.0  # for a soak's server to start and end, and for what comes before the load
CUT = 124  # the status of a program that was cut, as of the command timeout
LOG_LINES = 15  # printed of a program that failed


@dataclass(frozen=True)
class Program:
    """A program to run.

    Attributes:
        name: of its log.
        arguments: of Python.
        seconds: until it is told to end.
    """

    name: str
    arguments: Sequence[str]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, run, and print how each program ended.

    Returns:
        0, or 1 if one failed or was cut.
    """
    options = _parse(arguments)
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    installed = folder / "installed"
    if not options.wheels.is_dir():
        print(f"server_check: {options.wheels} is no folder", file=sys.stderr)
        return 1
    # Programs inherit it if it is ignored, as it is in a shell's background jobs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    install = Program("install", _pip(options.wheels, installed), 120)
    if _run(install, folder, os.environ):
        return 1
    environment = os.environ | {"PYTHONPATH": _path(installed)}
    results = [_run(program, folder, environment) for program in programs(options, folder)]
    return int(any(results))


def programs(options: argparse.Namespace, folder: Path) -> list[Program]:
    """What runs, with its results in ``folder``."""
    package = "vimserve.loadtests"
    compare = [
        "-m", f"{package}.compare", "--device", options.device, "--quick",
        "--output", str(folder / "compare"),
    ]  # fmt: skip
    soak = [
        "-m", f"{package}.soak", "--seconds", str(60 * options.minutes), "--overload", "2",
        "--json", str(folder / "soak.json"), "--", "--device", options.device,
    ]  # fmt: skip
    return [
        Program("compare", compare, 60 * options.compare_minutes),
        Program("soak", soak, 60 * options.minutes + BESIDES_S),
    ]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.gpu_check.server_check",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--output", type=Path, default=Path("server_check"), metavar="FOLDER")
    parser.add_argument("--device", default="cuda", help="torch device [%(default)s]")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of soak [%(default)s]")
    parser.add_argument(
        "--compare-minutes", type=float, default=COMPARE_MINUTES,
        help="after which the comparison keeps what it has and ends [%(default)s]",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _pip(wheels: Path, target: Path) -> list[str]:
    return [
        "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
        "--upgrade", "--target", str(target), *map(str, sorted(wheels.glob("*.whl"))),
    ]  # fmt: skip


def _path(installed: Path) -> str:
    """``PYTHONPATH`` with the installed wheels first."""
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(installed.resolve()), *([before] if before else [])])


def _run(program: Program, folder: Path, environment: Mapping[str, str]) -> int:
    """Run a program, cut it when its time is over, and print how it ended.

    Returns:
        Its exit status, or ``CUT``.
    """
    log = folder / f"{program.name}.log"
    begin = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *program.arguments],
            env=dict(environment), stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        status = _wait(process, program.seconds)
    how = "cut" if status == CUT else f"status {status}"
    print(f"{program.name}: {how} after {time.monotonic() - begin:.0f} s, {log}", flush=True)
    if status:
        print(*log.read_text(errors="replace").splitlines()[-LOG_LINES:], sep="\n", flush=True)
    return status


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it writes what it has
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        return CUT
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the servers that it has started
        process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
