"""Collect wheels of the server and its load tests for a machine without network.

``python -m vimserve.loadtests.gpu_check.wheels FOLDER`` downloads what ``vimserve[loadtest]``
needs, in the versions that are installed here, for another Python and platform, and builds the
project's own wheel from the checkout. What machines with GPUs have anyway is left out. Copy the
folder there and give it to ``vimserve.loadtests.gpu_check.server_check``.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from vimserve.loadtests.common.checkout import ROOT

PROJECT, EXTRA = "vimserve", "loadtest"
PRESENT = ("torch", "triton", "numpy", "numba", "matplotlib", "pillow")
PYTHON, PLATFORM = "3.12", "manylinux_2_28_x86_64"
OLDEST_GLIBC = 5  # of the manylinux tags, 2.5
LEGACY = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the folder and print its size.

    Returns:
        0, or 1 if a wheel could not be had.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.gpu_check.wheels",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default=PYTHON, help="version of the target's [%(default)s]")
    parser.add_argument("--platform", default=PLATFORM, help="tag of the target [%(default)s]")
    parser.add_argument(
        "--present", action="append", metavar="NAME", default=list(PRESENT),
        help=f"leave this out and what only it needs, repeatable, besides {', '.join(PRESENT)}",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    pins = sorted(needed(options.python, options.present))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [
        *pip, "download", *pins, "--no-deps", "--only-binary=:all:", "--dest", str(options.folder),
        "--python-version", options.python,
        *(word for tag in platforms(options.platform) for word in ("--platform", tag)),
    ]  # fmt: skip
    own = [*pip, "wheel", "--no-deps", "--wheel-dir", str(options.folder), str(ROOT)]
    for words in (command, own):
        done = subprocess.run(words, check=False)  # noqa: S603
        if done.returncode:
            print(f"wheels: pip {words[5]} failed", file=sys.stderr)
            return 1
    wheels = list(options.folder.glob("*.whl"))
    megabytes = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(f"{len(wheels)} wheels, {megabytes:.1f} MB in {options.folder}")
    return 0


def needed(python: str, present: Sequence[str]) -> set[str]:
    """What the project needs on Linux under Python ``python``, as ``name==version`` of this
    environment; not the names in ``present``, and not what only they need.

    Raises:
        importlib.metadata.PackageNotFoundError: if something is not installed here.
    """
    left_out = set(map(normal, present))
    pins: dict[tuple[str, str], str] = {}
    waiting = [(PROJECT, EXTRA)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in pins or name in left_out:
            continue
        found = metadata.distribution(name)
        pins[name, extra] = f"{name}=={found.version.partition('+')[0]}"
        waiting += _requirements(found, extra, python)
    return {pin for (name, _), pin in pins.items() if name != PROJECT}


def normal(name: str) -> str:
    """The name of a package as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def platforms(tag: str) -> list[str]:
    """The tags of the wheels that run where those with this one run."""
    found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", tag)
    if not found:
        return [tag]
    glibc, machine = int(found[1]), found[2]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, OLDEST_GLIBC - 1, -1)]
    return [*tags, *(f"{name}_{machine}" for minor, name in LEGACY.items() if minor <= glibc)]


def _requirements(
    found: metadata.Distribution, extra: str, python: str
) -> Iterator[tuple[str, str]]:
    target = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
        "platform_system": "Linux", "os_name": "posix", "extra": extra,
    }  # fmt: skip
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(target):
            for wanted in requirement.extras or {""}:
                yield normal(requirement.name), wanted


if __name__ == "__main__":
    raise SystemExit(main())
