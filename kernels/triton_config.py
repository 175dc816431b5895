"""Block sizes and schedules of the Triton kernels, chosen by shapes and the device's size alone.

Nothing here waits for the GPU, and nothing is tuned while requests run: a model's shapes give the
same kernels on every call, so one forward pass per schedule at start-up compiles all of them.
"""

import functools

import torch

LANES = 32  # threads of a warp
SCHEDULERS = 4  # warps that a multiprocessor can issue from in one cycle

# Costs to compare the two schedules of the scan; they are estimates, not measured yet. The unit is
# the time a scheduler needs for one token of a warp's channels at full rate, about 150 cycles.
LONE_WARP = 3.0  # a token of a single warp, which waits for its own loads and results
TWO_WALKS = 1.9  # a token of the chunked schedule, which needs more exponentials
LAUNCHES = 100.0  # two more kernels, and carrying the states across the chunks

MIN_CHUNK = 32  # tokens; in smaller chunks the states would take more bytes than the tokens
WARPS_PER_SCHEDULER = 4

# Set explicitly, because Triton's default is about to change.
OPTIONS = {"enable_fp_fusion": True}


def channel_block(E: int) -> int:
    """Channels of a scan program, one per thread; its warps share rows of B and C in L1."""
    return next((block for block in (128, 64) if E % block == 0), LANES)


def scan_registers(R: int) -> dict[str, int]:
    """The bound on a scan thread's registers, as a launch option.

    Without it the assembler uses at most 128 for sm_80, and spills the float32 weights of rank 48.
    """
    return {"maxnreg": 168} if R > 32 else {}


def chunk_tokens(
    T: int, N: int, K: int, E: int, max_seqlen: int | None, device: torch.device
) -> int:
    """Tokens of a chunk, or 0 if the scan should walk whole sequences.

    Args:
        T: tokens of all sequences.
        N: sequences.
        K: directions.
        E: channels.
        max_seqlen: tokens of the longest sequence; None assumes the mean.
        device: the device that runs the scan.
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
