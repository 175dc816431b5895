"""Block sizes and schedules of the Triton kernels, from shapes and the device's size alone.

Nothing here waits for the GPU, and nothing is tuned while requests run: a model's shapes give the
same kernels on every call, so one forward pass per schedule at start-up compiles all of them.
"""

import functools

import torch

LANES = 32  # threads of a warp
SCHEDULERS = 4  # warps that a multiprocessor can issue from in one cycle

# Costs in the time that one scheduler needs for one token of a warp's channels at full rate,
# about 150 cycles. They order the two schedules of the scan and are not measured yet.
LONE_WARP = 3.0  # a warp by itself waits for its own loads and results
TWO_WALKS = 1.9  # the chunked schedule's exponentials over the sequential one's
LAUNCHES = 100.0  # two more kernels, and carrying the states from chunk to chunk

MIN_CHUNK = 32  # below it the states between chunks would outweigh the tokens' own bytes
WARPS_PER_SCHEDULER = 4

# Said aloud because Triton's default is about to change.
OPTIONS = {"enable_fp_fusion": True}


def channel_block(E: int) -> int:
    """Channels of a scan program, one a thread: warps of a block share rows of B and C in L1."""
    return next((block for block in (128, 64) if E % block == 0), LANES)


def scan_registers(R: int) -> dict[str, int]:
    """The bound on a scan thread's registers, as a launch option.

    Left alone, the assembler stops at 128 for sm_80 and spills the float32 weights of rank 48.
    """
    return {"maxnreg": 168} if R > 32 else {}


def chunk_tokens(
    T: int, N: int, K: int, E: int, max_seqlen: int | None, device: torch.device
) -> int:
    """Tokens of a chunk, or 0 where the scan should walk whole sequences.

    T tokens in N sequences, the longest of ``max_seqlen`` (None: as long as the mean), are walked
    in K directions over E channels.
    """
    schedulers = _multiprocessors(device) * SCHEDULERS
    warps = K * -(-E // LANES)
    chunk = max(MIN_CHUNK, 16 * -(-T * warps // (16 * WARPS_PER_SCHEDULER * schedulers)))
    busy = T * warps / schedulers
    sequential = max(busy, LONE_WARP * (max_seqlen or -(-T // N)))
    chunked = LAUNCHES + max(TWO_WALKS * busy, LONE_WARP * 2 * chunk)
    return chunk if chunked < sequential else 0


def conv_block(E: int) -> tuple[int, int]:
    """Tokens and channels of a convolution program of 4 warps."""
    channels = next(block for block in (64, 32, 16) if E % block == 0)
    return 2048 // channels, channels


def norm_block(D: int) -> tuple[int, int]:
    """Rows of a normalisation program of 4 warps and the power of two that holds D."""
    width = max(16, 1 << (D - 1).bit_length())
    return max(1, 2048 // width), width


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
