"""The short tables at the end of a run: ``python -m vimserve.loadtests.gpu_check.summary REPORT``
prints them again.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vimserve.loadtests.gpu_check.report import Report, one_line
from vimserve.loadtests.gpu_check.sections import Row

Rows = Mapping[str, Sequence[Row]]


def summary(report: Report) -> str:
    """The tables of a report."""
    return "\n".join(lines(report.rows))


def lines(rows: Rows) -> Iterator[str]:
    """The tables of a report's rows, line by line."""
    yield "\n== schedules of the scan"
    yield from _schedules(rows.get("fit", []))
    yield "\n== forward passes: ms (images/s, MB above weights)"
    yield from _models(rows.get("models", []))
    yield from _compiled(rows.get("compiled", []))
    yield "\n== buckets"
    yield from _buckets(rows.get("buckets", []))
    yield "\n== attention kernels"
    for row in rows.get("traces", []):
        if row.get("attention"):
            yield f"{row['job']}: {row['attention']}"
    yield "\n== gates and errors"
    yield from _trouble(rows)


def _schedules(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if "shape" in row:
            yield "  ".join(
                [f"{row['shape']:<10}"]
                + [
                    f"{name} {row[f'{name}_chunk']:>4} {1e3 * row[f'{name}_ms']:>8.1f} us"
                    for name in ("best", "now", "fitted")
                ]
            )
        elif "LONE_WARP" in row:
            for name, before in row["before"].items():
                yield f"{name} = {row[name]:.3g}  # was {before}"
            yield f"a unit is {1e6 * row['unit_ms']:.1f} ns; mean error {row['mean_error']:.0%}"


def _models(rows: Sequence[Row]) -> Iterator[str]:
    measured = [row for row in rows if "ms" in row]
    best: dict[tuple[str, int], dict[str, Row]] = {}
    for row in measured:
        of_size = best.setdefault((row["model"], row["size"]), {})
        name = f"{'1' if row['images'] == 1 else 'many'} {row['mode']}"
        if name not in of_size or row["images_per_s"] > of_size[name]["images_per_s"]:
            of_size[name] = row
    for (model, size), kinds in sorted(best.items(), key=lambda entry: (entry[0][1], entry[0][0])):
        cells = [
            f"{row['images']} {row['mode']} {row['ms']:.2f} "
            f"({row['images_per_s']:.0f}, {row['peak_above_weights_bytes'] / 1e6:.0f})"
            for row in kinds.values()
        ]
        yield f"{size:>5} {model:<16} {'; '.join(cells)}"


def _compiled(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if "ms" in row:
            label = f"{row['size']:>5} {row['model']:<16}"
            yield f"{label} {row['images']} {row['mode']} {row['ms']:.2f}"


def _buckets(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if "when" in row:
            yield one_line(row)
    passes = [row for row in rows if "gate" in row]
    if passes:
        worst = max(row["error"] for row in passes)
        yield f"{len(passes)} buckets with two batches in flight, largest difference {worst:.2e}"


def _trouble(rows: Rows) -> Iterator[str]:
    gates = [row for of_section in rows.values() for row in of_section if "gate" in row]
    red = [row for row in gates if not row["green"]]
    yield f"{len(gates)} gates, {len(red)} red"
    for row in red:
        yield f"RED {row['gate']}: error {row['error']:.3e}, bound {row['bound']:.3e}"
    for section, of_section in rows.items():
        for row in of_section:
            if "error" in row and "gate" not in row:
                yield f"{section}: {one_line(row)}"


if __name__ == "__main__":
    print("\n".join(lines(json.loads(Path(sys.argv[1]).read_text())["rows"])))
