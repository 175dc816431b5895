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
**Nothing in these tables was measured.** They are predictions from the kernels' machine code and
from what the models launch, written by `{COMMAND} --page docs/gpu.md` with Triton
{triton.__version__}. `{COMMAND} --report gpu_check.json` prints them beside what
`python -m vimserve.loadtests.gpu_check` has measured, at the rates that were measured of the card.

How it works: the model's own code runs on tensors without memory, which tells every launch and
every PyTorch operation of a pass. Triton compiles the kernels for the card; the loop of the scan is
disassembled with the stall counts and barriers that the assembler wrote into it, and an in-order
scoreboard issues it for as many warps as fit. A kernel takes the longest of its cycles, its
operations and its bytes, and a latency. What is not known is set once in favour of speed and once
against it, so each time is a range. It is not a confidence interval.

How well it works: an H100 ran Vim-Ti's scan in eight cases, four with a loop that waited for its
loads and four with one whose loads are ahead. The first four lay within the range that was
predicted. The others took 1.27 to 1.52 of its high end as it was then, which says that something
slows down full multiprocessors that is not simulated. Since then the high end has a factor of 1.5
where a scheduler has several warps, fitted to those four.

Then an H100 ran `gpu_check` for three minutes, on code that the prediction had not seen. Of ten
operations six lay within their range, the others between 0.95 of its low and 1.12 of its high end.
Of eleven passes of Vim-Ti that were replayed as graphs nine lay within, two 1 % above; of eleven of
DeiT-Ti with fused attention seven, the others between 0.87 of the low and 1.29 of the high end. Of
eager DeiT-Ti one of eleven did, the others took up to twice the high end: PyTorch's products of
scores with a length that is not a multiple of eight are slower than any share assumed here. Passes
that the host launched kernel by kernel took up to three times the high end, since that host was a
slow one. No other card has been compared.

What is not known, or not modelled:

- **whether a load of one address by all lanes occupies the first-level cache's port once (low), or
  once for each register (high).** The scan reads B, C and dt so, four numbers at a time. With the
  latter the port bounds four warps of Vim-Ti at 752 cycles a token on sm_90, above the 608 of the
  special-function units. No document of NVIDIA's says it;
- latencies under load: those of an idle card (low), and 1.5 times those of its memory (high). Of a
  loop that prefetches, those of the first-level cache (low) and of the second-level one (high);
- whether what fits into the second-level cache stays there (low), or comes from memory (high);
- the shares of the peak rates that copies (0.92, 0.75), products (0.75, 0.45) and fused attention
  (by generation, from 0.7 to 0.2) get;
- from a kernel's end to the next one's work: 1 to 3 µs. This decides single small images;
- clocks: the boost clock. T4 and L4 seldom hold it within 70 and 72 W;
- which warp is issued when several could be: the longest waiting. Other orders change the cycles of
  full schedulers by up to a third;
- conflicts of register banks, fetching of instructions, and batches that memory is too small for.

Cycles in which every warp of a scheduler goes one token further, with data in the first- or
second-level cache or in memory: of one warp, and of as many as fit one scheduler (*warps*).
*Special units* and *load port* are the least that full schedulers need of these. Of sm_100 and
sm_120, the latencies are an H100's.
"""
OPERATIONS = """\
Microseconds of Vim-Ti's operations, for sequences × tokens, as one launch or three in a CUDA graph:
"""
PASSES = """\
Milliseconds of a forward pass for × images, as a CUDA graph; `deit-tiny` with fused attention.
Without a graph no pass is faster than the host launches it, which for Vim's two hundred launches
takes 2 to 6 ms, and took a slow one up to 23.
"""
