"""How many exponentials a GPU's special-function units compute a second."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vimserve.loadtests.gpu_check.timing import median_ms

ROUNDS = 512
CHAINS = 8
BLOCK = 1024


@triton.jit
def _exponentials(out, ROUNDS: tl.constexpr, CHAINS: tl.constexpr, BLOCK: tl.constexpr):
    """CHAINS independent chains of ROUNDS exponentials in every element."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = ()
    for chain in tl.static_range(CHAINS):
        values = values + (index.to(tl.float32) * -1e-6 - chain,)
    for _ in range(ROUNDS):
        following = ()
        for chain in tl.static_range(CHAINS):
            following = following + (
                tl.inline_asm_elementwise(
                    "ex2.approx.ftz.f32 $0, $1;", "=f,f", [values[chain]],
                    dtype=tl.float32, is_pure=True, pack=1,
                ),
            )  # fmt: skip
        values = following
    total = values[0]
    for chain in tl.static_range(1, CHAINS):
        total += values[chain]
    tl.store(out + index, total)


def exponentials_per_s() -> float:
    """Measure it with all multiprocessors busy."""
    programs = 64 * torch.cuda.get_device_properties("cuda").multi_processor_count
    out = torch.empty(programs * BLOCK, device="cuda")

    def run() -> Tensor:
        _exponentials[(programs,)](out, ROUNDS=ROUNDS, CHAINS=CHAINS, BLOCK=BLOCK, num_warps=4)
        return out

    return len(out) * CHAINS * ROUNDS / (1e-3 * median_ms([run]))
