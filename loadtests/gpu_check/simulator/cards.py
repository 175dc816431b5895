"""What NVIDIA's documents say of some cards, and how long their memories take to answer.

Multiprocessors, clocks, caches, bandwidths and tensor rates (dense, sums in float32):

- T4: "NVIDIA Turing GPU Architecture" whitepaper, appendix B, and the T4 datasheet. It seldom keeps
  its boost clock within 70 W.
- A10: A10 datasheet, and "NVIDIA Ampere GA102 GPU Architecture" whitepaper.
- L4: L4 datasheet, and "NVIDIA Ada GPU Architecture" whitepaper. It seldom keeps its boost clock
  within 72 W.
- A100: "NVIDIA A100 Tensor Core GPU Architecture" whitepaper, and the A100 80 GB SXM datasheet.
- H100, H200: "NVIDIA H100 Tensor Core GPU Architecture" whitepaper and the SXM datasheets. The
  clock is the one that their 67 TFLOPS in float32 imply; the tensor rates imply 1.83 GHz.
- RTX 4090: "NVIDIA Ada GPU Architecture" whitepaper, appendix A.

Latencies in cycles, measured by pointer chasing: A100, H100 and RTX 4090 by Luo et al.,
"Benchmarking and Dissecting the Nvidia Hopper GPU Architecture via Microbenchmarking" (arXiv
2402.13499); the caches of the T4 by Jia et al., "Dissecting the NVIDIA Turing T4 GPU via
Microbenchmarking" (arXiv 1903.07486). The others are taken from a card of the same family, the T4's
memory from the A100.
"""

from dataclasses import dataclass, replace

import torch

from vimserve.kernels.triton_config import REGISTERS, SCHEDULERS
from vimserve.loadtests.gpu_check.simulator.scoreboard import Units

REGISTER_PORTION = 256  # in which warps are given registers
SPECIAL_LANES = 16  # of a multiprocessor, from 7.5 to 12.0 (CUDA C++ Programming Guide, 8.4.1)


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        architecture: its compute capability, as 90.
        multiprocessors: how many it has.
        clock_hz: of its multiprocessors at their boost.
        bytes_per_s: of its memory.
        l2_bytes: of its second-level cache.
        tensor_flops: of its matrix units in float16 or bfloat16, a second.
        l1_latency: cycles to its first-level cache.
        l2_latency: cycles to its second-level cache.
        memory_latency: cycles to its memory.
        resident_warps: that a multiprocessor can hold.
        units: rates of a multiprocessor.
    """

    architecture: int
    multiprocessors: int
    clock_hz: float
    bytes_per_s: float
    l2_bytes: float
    tensor_flops: float
    l1_latency: int
    l2_latency: int
    memory_latency: int
    resident_warps: int
    units: Units

    @property
    def dtype(self) -> torch.dtype:
        """In which models are served: bfloat16 if the card has it."""
        return torch.bfloat16 if self.architecture >= 80 else torch.float16

    @property
    def special_per_s(self) -> float:
        """Exponentials or reciprocals a second."""
        return SPECIAL_LANES * self.multiprocessors * self.clock_hz

    def resident_programs(self, warps: int, registers: int, shared_bytes: int) -> int:
        """How many programs of so many warps a multiprocessor holds.

        Args:
            warps: of a program.
            registers: of a thread.
            shared_bytes: of a program.
        """
        portions = -(-registers * 32 // REGISTER_PORTION)
        per_scheduler = REGISTERS // SCHEDULERS // (portions * REGISTER_PORTION)
        by_registers = per_scheduler * SCHEDULERS // warps
        shared = 64 * 1024 // shared_bytes if shared_bytes else by_registers
        return max(1, min(by_registers, self.resident_warps // warps, shared))


CARDS = {
    "T4": Card(75, 40, 1.59e9, 320e9, 4 * 2**20, 65e12, 32, 188, 466, 32, Units(2, 64)),
    "A10": Card(86, 72, 1.695e9, 600e9, 6 * 2**20, 125e12, 38, 262, 466, 48, Units(1, 128)),
    "L4": Card(89, 58, 2.04e9, 300e9, 48 * 2**20, 121e12, 43, 273, 541, 48, Units(1, 128)),
    "A100": Card(80, 108, 1.41e9, 2039e9, 40 * 2**20, 312e12, 38, 262, 466, 64, Units(2, 128)),
    "H100": Card(90, 132, 1.98e9, 3350e9, 50 * 2**20, 989e12, 41, 263, 479, 64, Units(1, 128)),
    "H200": Card(90, 132, 1.98e9, 4800e9, 50 * 2**20, 989e12, 41, 263, 479, 64, Units(1, 128)),
    "RTX 4090": Card(89, 128, 2.52e9, 1008e9, 72 * 2**20, 165e12, 43, 273, 541, 48, Units(1, 128)),
}


def of_architecture(architecture: int) -> Card:
    """A card of a compute capability; if none has it, an H100 that is said to."""
    of_it = (card for card in CARDS.values() if card.architecture == architecture)
    return next(of_it, replace(CARDS["H100"], architecture=architecture))
