"""Vim against DeiT on this machine: bare and over HTTP, with a report and plots.

``make compare`` or ``python -m vimserve.loadtests.compare``; ``--task segment`` compares UPerNets
on both, ``--task detect`` cascade detectors, also with DeiT's attention in windows. The weights are
random unless told otherwise, since times and memory do not depend on them. Others of the catalog,
``resnet-50`` and ``resnet-50-upernet`` among them, are named by ``--model``. The models take turns,
in rounds, until the ratios are known well enough or the time is up. If it is interrupted, it keeps
what was measured until then.
"""

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from vimserve.loadtests.common.checkout import results_folder
from vimserve.loadtests.common.options import positive
from vimserve.loadtests.compare import plots, report
from vimserve.loadtests.compare.results import Results, describe
from vimserve.loadtests.compare.run import Settings, run

MODELS: dict[str, Sequence[str]] = {
    "classify": ("vim-tiny", "deit-tiny", "deit-tiny-eager"),
    "segment": ("vim-tiny-upernet", "deit-tiny-upernet", "deit-tiny-upernet-eager"),
    "detect": (
        "vim-tiny-cascade",
        "deit-tiny-cascade",
        "deit-tiny-cascade-eager",
        "deit-tiny-cascade-windowed",
    ),
}
SIZES = (224, 512, 768, 1024, 1248)
QUICK_SIZES = (224, 512, 1248)
DETECTED = 512  # from this side on, objects are detected
CLIENTS = (1, 4)
MINUTES = 14.0
QUICK_MINUTES = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the results whatever happens.

    Returns:
        0, or 1 if an answer was wrong or the run was cut short.
    """
    options = _parse(arguments)
    settings = Settings(
        task=options.task,
        models=options.model or MODELS[options.task],
        sizes=options.resolutions or _usual_sizes(options.task, quick=options.quick),
        clients=options.clients or CLIENTS,
        device=options.device,
        threads=options.threads,
        seconds=options.seconds,
        minutes=options.minutes or (QUICK_MINUTES if options.quick else MINUTES),
        published=options.weights == "published",
    )
    environment = describe(settings.device, settings.threads)
    results = Results(environment, settings.task, list(settings.models), settings.cases)
    folder = options.output or results_folder() / _folder_name(environment, settings.task)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run(settings, results, folder)
    except KeyboardInterrupt:
        print("interrupted: what was measured is kept", file=sys.stderr)
    except RuntimeError as error:
        print(f"stopped: {error}", file=sys.stderr)
    finally:
        results.save(folder)
        report.write(results, folder, plots.draw(results, folder))
        print(*report.ratios(results), sep="\n")
        print(f"{folder / 'report.md'}{' (partial)' if results.partial else ''}")
    wrong = sum(results.wrong(case, model) for case in results.cases for model in results.models)
    if wrong:
        print(f"{wrong} answers were wrong", file=sys.stderr)
    return int(bool(wrong) or results.partial)


def _folder_name(environment: dict[str, str | int], task: str) -> str:
    device = re.sub(r"[^a-z0-9]+", "-", str(environment["device"]).lower()).strip("-")
    return f"{str(environment['date'])[:10]}-{device}-{task}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.compare", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--task", choices=MODELS, default="classify")
    parser.add_argument(
        "--model", action="append", help="of the catalog and the task, Vim first, repeatable"
    )
    parser.add_argument(
        "--resolutions", type=_sizes, metavar="N,N", help=f"sides in pixels {SIZES}"
    )
    parser.add_argument("--clients", type=_sizes, metavar="N,N", help=f"at once {CLIENTS}")
    parser.add_argument("--minutes", type=positive, help=f"for everything [{MINUTES:g}]")
    parser.add_argument(
        "--seconds", type=positive, default=0.5, help="least time of a turn [%(default)s]"
    )
    parser.add_argument("--device", default="cpu", help="torch device [%(default)s]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on a CPU")
    parser.add_argument("--weights", choices=("random", "published"), default="random")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_SIZES} in {QUICK_MINUTES:g} minutes"
    )
    parser.add_argument(
        "--output", type=Path,
        help="folder [DATE-DEVICE-TASK, in loadtests/results if the current folder has that]",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _usual_sizes(task: str, *, quick: bool) -> list[int]:
    sizes = QUICK_SIZES if quick else SIZES
    return [size for size in sizes if task != "detect" or size >= DETECTED]


def _sizes(text: str) -> list[int]:
    sizes = sorted({int(part) for part in text.split(",")})
    if sizes[0] < 1:
        raise argparse.ArgumentTypeError(f"whole numbers of at least 1, not {text!r}")
    return sizes


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # keeps what was measured, too
    raise SystemExit(main())
