"""Block sizes and schedules of the Triton kernels, chosen by shapes and the device's size alone.

Nothing here waits for the GPU, and nothing is tuned while requests run: a model's shapes give the
same kernels on every call, so one forward pass per schedule at start-up compiles all of them.
"""

import functools

import torch

LANES = 32  # threads of a warp
REGISTERS = 65_536  # of a multiprocessor
SCHEDULERS = 4  # of a multiprocessor, each of which issues one warp's instruction in a cycle

# Costs by which the two schedules of the scan are compared, fitted to an H100
# (loadtests/results/, gpu_check). The unit is the time that a scheduler needs for one token of a
# warp's channels while enough warps keep it busy; there it was 0.15 us.
LONE_WARP = 2.5  # a token of one or two warps, which wait for their own loads and results
TWO_WALKS = 1.6  # a token of the chunked schedule, which needs more exponentials
LAUNCHES = 32.0  # two more kernels
START = 8.0  # what a program does before its first token, and carrying its state, in tokens

MIN_CHUNK = 8  # tokens; in smaller chunks the states would take more bytes than the tokens

MIN_WALK, MAX_WALK = 4, 32  # rows of ``upsample_add``
PROGRAMS = 4  # of it that a multiprocessor should get at least

# Set explicitly, because Triton's default is about to change.
OPTIONS = {"enable_fp_fusion": True}


def channel_block(E: int, R: int) -> int:
    """Channels of a scan program, one per thread; its warps share rows of B and C in L1."""
    sizes = (128, 64) if R <= 32 else (64,)  # of a thread with many registers, fewer
    return next((block for block in sizes if E % block == 0), LANES)


def scan_registers(R: int) -> dict[str, int]:
    """The bound on a scan thread's registers, as a launch option.

    Without it the assembler uses at most 128 for sm_80, and spills the float32 weights of rank 48.
    """
    return {"maxnreg": 192} if R > 32 else {}


def chunk_tokens(
    T: int, N: int, K: int, E: int, R: int, max_seqlen: int | None, device: torch.device
) -> int:
    """Tokens of a chunk, or 0 if the scan should walk whole sequences.

    Args:
        T: tokens of all sequences.
        N: sequences.
        K: directions.
        E: channels.
        R: rank of the step sizes.
        max_seqlen: tokens of the longest sequence; None assumes the mean.
        device: the device that runs the scan.
    """
    return _chunk_tokens(T, K, E, R, max_seqlen or -(-T // N), _multiprocessors(device))


@functools.lru_cache(maxsize=1024)
def _chunk_tokens(T: int, K: int, E: int, R: int, max_seqlen: int, multiprocessors: int) -> int:
    block = channel_block(E, R)
    warps = block // LANES
    together = multiprocessors * (resident_warps(R) // warps)  # programs that run at a time
    programs = K * -(-E // block)  # of one run of tokens
    chunk = max(MIN_CHUNK, -(-T // max(1, together // programs)))  # they fill the GPU once

    def walk(runs: int, tokens: int) -> float:
        """What it costs to walk runs of at most so many tokens."""
        waves, rest = divmod(runs * programs, together)
        busy = (-(-n // multiprocessors) * warps / SCHEDULERS for n in (together, rest))
        full, last = (max(LONE_WARP, n) for n in busy)
        return (START + tokens) * (waves * full + (last if rest else 0))

    chunked = LAUNCHES + TWO_WALKS * walk(-(-T // chunk), chunk)
    return chunk if chunked < walk(-(-T // max_seqlen), max_seqlen) else 0


def resident_warps(R: int) -> int:
    """Warps of the scan that a multiprocessor holds at a time, by a thread's registers."""
    registers = 128 if R <= 12 else 160 if R <= 24 else 192
    return REGISTERS // (registers * LANES)


def conv_block(E: int) -> tuple[int, int]:
    """Tokens and channels of a convolution program of 4 warps."""
    channels = next(block for block in (128, 64, 32, 16) if E % block == 0)
    return 2048 // channels, channels


def norm_block(D: int) -> tuple[int, int]:
    """Rows of a normalisation program of 4 warps and the power of two that holds D."""
    width = max(16, 1 << (D - 1).bit_length())
    return max(1, 2048 // width), width


def region_block(C: int, pixels: int) -> int:
    """Channels of a ``roi_align`` program, which reads so many pixels at a time."""
    return max(16, min(4096 // pixels, 1 << (C - 1).bit_length()))


def walked_rows(H: int, tiles: int, device: torch.device) -> int:
    """Rows of an image that a program of ``upsample_add`` walks down, if so many begin each row.

    Long walks read less again, short ones keep small images from leaving multiprocessors idle.
    """
    enough = PROGRAMS * _multiprocessors(device)
    return max(MIN_WALK, min(MAX_WALK, H * tiles // enough))


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
