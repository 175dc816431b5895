"""The section *Predicted times* of ``docs/gpu.md``."""

from pathlib import Path

import triton

from vimserve.loadtests.gpu_check.simulator.tables import kernels, loops, passes

HEADING = "## Predicted times"
COMMAND = "python -m vimserve.loadtests.gpu_check.simulator"


def write(page: Path) -> None:
    """Replace the section in the page, or add it at its end; make the page if there is none."""
    text = page.read_text() if page.exists() else "# On a GPU\n"
    before, _, after = text.partition(f"\n{HEADING}\n")
    _, heading, rest = after.partition("\n## ")
    page.write_text(f"{before.rstrip()}\n\n{section()}{heading}{rest}")


def section() -> str:
    """It, with the tables computed anew."""
    return "\n".join([HEADING, "", INTRODUCTION, *loops(), "", OPERATIONS, *kernels(), "", PASSES,
                      *passes(), ""])  # fmt: skip


INTRODUCTION = f"""\
**Nothing here was measured.** These are predictions from the kernels' machine code and from what
the models launch, written by `{COMMAND} --page docs/gpu.md` with Triton {triton.__version__}.
`{COMMAND} --report gpu_check.json` prints them beside what
`python -m vimserve.loadtests.gpu_check` has measured, at the rates that were measured of the card.

How it works: the model's own code runs on tensors without memory, which tells every launch and
every PyTorch operation of a pass. Triton compiles the kernels for the card; the loop of the scan is
disassembled with the stall counts and barriers that the assembler wrote into it, and an in-order
scoreboard issues it for as many warps as fit. A kernel takes the longest of its cycles, its
operations and its bytes, and a latency. What is not known is set once in favour of speed and once
against it, so each time is a range. It is not a confidence interval. Unknown are:

- **whether a load of one address by all lanes occupies the first-level cache's port once, or once
  for each register** (the low and the high end). The scan reads B, C and dt so, four numbers at a
  time: with the latter, the port and not the special-function units bounds a full multiprocessor,
  at 752 cycles a token of Vim-Ti instead of 608. No document of NVIDIA's says it. It matters most;
- latencies under load: those of an idle card (low), and 1.5 times those of its memory (high).
  Reads are constant in time here, while a real cache's vary;
- whether what fits into the second-level cache stays there (low), or comes from memory (high);
- the shares of the peak rates that copies (0.92, 0.75), products (0.75, 0.45) and fused attention
  (by generation, from 0.2 to 0.7) get;
- from a kernel's end to the next one's work: 1 to 3 µs. This decides single small images;
- clocks: the boost clock. T4 and L4 seldom hold it within 70 and 72 W (half is common on a T4);
- which warp is issued when several could be: the longest waiting. Other orders change full
  multiprocessors by up to a third.

Not modelled are conflicts of register banks, fetching of instructions, and memory that runs out.

Cycles in which every warp of a scheduler goes one token further, with data in the second-level
cache (L2) or in memory; *warps* is how many of one scheduler fit, *special units* and *load port*
are the least that full schedulers need of these. sm_100 and sm_120 have the latencies of an H100.
"""
OPERATIONS = """\
Microseconds of Vim-Ti's operations, for sequences × tokens, as one launch or three follow another
in a CUDA graph:
"""
PASSES = """\
Milliseconds of a forward pass for × images, as a CUDA graph; `deit-tiny` with fused attention.
Without a graph no pass is faster than the host launches it, which for Vim's two hundred launches
takes 2 to 6 ms.
"""
