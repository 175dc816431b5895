"""The shapes of recorded forward passes, to which batches are padded.

Where kernels read the boundaries on the device, a bucket holds any images. Where the length of the
images shapes what is launched, a bucket holds images of one length, that of a common square.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

TOKENS_PER_IMAGE = 64
COMMON_SIDES = (224, 384, 512, 768, 1024, 1248)  # of square inputs, in pixels

# An image of 224 pixels: 196 patches of 16 pixels and up to two class tokens.
UNIT = 198
# From one power of two of UNIT to the next, in 64ths. They leave little padding to two to seven
# images of 224 pixels (96 is three) and to powers of two of images of 512 and 1024 (83), 384 and
# 768 (96), and 1248 pixels (123). What is one token too long for a step is padded by 16 %.
STEPS = (64, 74, 83, 96, 110, 123)
# Bounds of the longest image: squares of 224, 256, 320, 400, 512, 640, 768, 896, 1024, 1248, 1536
# and 2048 pixels at patches of 16, with a little room.
LONGEST = (200, 264, 408, 640, 1088, 1664, 2320, 3168, 4160, 6144, 9280, 16_448)


@dataclass(frozen=True, order=True)
class Bucket:
    """The shapes of one graph.

    Attributes:
        tokens: of the padded batch.
        longest: length of the longest image that fits; kernels choose their schedule by it.
        per_image: tokens for each sequence, which bounds their number.
    """

    tokens: int
    longest: int
    per_image: int = TOKENS_PER_IMAGE

    @property
    def sequences(self) -> int:
        """Images and runs of padding, of which there is at least one."""
        return self.tokens // self.per_image

    @property
    def host_lengths(self) -> tuple[int, ...]:
        """What the host reads of the lengths while it records: the longest."""
        return (self.longest,)

    def holds(self, lengths: Sequence[int]) -> bool:
        """Whether images of these lengths fit, and no run of padding is longer than ``longest``."""
        left, slots = self.tokens - sum(lengths), self.sequences - len(lengths)
        return max(lengths) <= self.longest and slots > 0 and 0 <= left <= slots * self.longest

    def pad(self, lengths: Sequence[int]) -> list[int]:
        """The lengths of all the sequences: the images, runs of padding, and empty ones at the end.

        The runs are short, so that none takes longer than the images do. No empty sequence lies
        between others: a kernel that walks a chunk would step through it.
        """
        left, slots = self.tokens - sum(lengths), self.sequences - len(lengths)
        runs = min(slots, -(-left // self.per_image))
        padding = [left * (i + 1) // runs - left * i // runs for i in range(runs)]
        return [*lengths, *padding, *[0] * (slots - runs)]


@dataclass(frozen=True)
class EqualBucket:
    """The shapes of one graph of ``sequences`` images, or as much padding, of one length each."""

    sequences: int
    length: int

    @property
    def tokens(self) -> int:
        """Of the padded batch."""
        return self.sequences * self.length

    @property
    def host_lengths(self) -> tuple[int, ...]:
        """What the host reads of the lengths while it records: all of them."""
        return (self.length,) * self.sequences

    def holds(self, lengths: Sequence[int]) -> bool:
        """Whether images of these lengths fit."""
        return len(lengths) <= self.sequences and set(lengths) == {self.length}

    def pad(self, lengths: Sequence[int]) -> list[int]:
        """The lengths of all the sequences, the padding's included."""
        return [*lengths, *[self.length] * (self.sequences - len(lengths))]


AnyBucket = Bucket | EqualBucket


def make_equal_buckets(lengths: Iterable[int], max_tokens: int) -> list[EqualBucket]:
    """Ascending buckets for each length: at most a third of one is padding."""
    buckets = []
    for length in lengths:
        most = max_tokens // length
        counts = {
            n for step in range(most.bit_length()) for n in (2**step, 3 * 2**step) if n < most
        }
        buckets += [EqualBucket(count, length) for count in {*counts, most} if count]
    return sorted(buckets, key=lambda bucket: bucket.tokens)


def make_buckets(
    max_tokens: int, schedule: Callable[[Bucket], Hashable] | None = None
) -> list[Bucket]:
    """Ascending buckets, the last of which take ``max_tokens``, but no fewer than ``UNIT``.

    Args:
        max_tokens: of the largest batch.
        schedule: what the kernels make of a bucket. Of the buckets of equal tokens and schedule
            only that for the longest images is made.
    """
    buckets: dict[Hashable, Bucket] = {}
    for tokens in _sizes(max_tokens):
        for longest in (*(bound for bound in LONGEST if 2 * bound <= tokens), tokens):
            bucket = Bucket(tokens, longest)
            buckets[tokens, schedule(bucket) if schedule else longest] = bucket
    return sorted(buckets.values())


def choose_bucket(buckets: Sequence[AnyBucket], lengths: Sequence[int]) -> AnyBucket | None:
    """The smallest bucket that holds images of these lengths, if there is one."""
    return next((bucket for bucket in buckets if bucket.holds(lengths)), None)


def _sizes(max_tokens: int) -> list[int]:
    """The tokens of the padded batches: the steps below ``max_tokens``, and these."""
    octaves = max(1, max_tokens // UNIT).bit_length()
    sizes = [-(-UNIT * 2**octave * step // 64) for octave in range(octaves) for step in STEPS]
    return [*sizes[: bisect_left(sizes, max_tokens)], max(UNIT, max_tokens)]
