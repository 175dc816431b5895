"""The shapes of recorded forward passes, to which batches are padded.

Where kernels read the boundaries on the device, as a Vim's do, a bucket holds any images. Where the
length of the images shapes what is launched, as a DeiT's attention is, a bucket holds images of one
length, that of a common square.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SMALLEST_TOKENS = 256
STEPS_PER_OCTAVE = 4
# Squares often have a power of two of patches, and the class tokens come on top.
EXTRA_TOKENS = 64
TOKENS_PER_IMAGE = 64
COMMON_SIDES = (224, 384, 512, 768, 1024, 1248)  # of square inputs, in pixels


@dataclass(frozen=True, order=True)
class Bucket:
    """The shapes of one graph.

    Attributes:
        tokens: of the padded batch.
        longest: length of the longest image that fits; kernels choose their schedule by it.
    """

    tokens: int
    longest: int

    @property
    def sequences(self) -> int:
        """Images and runs of padding, of which there is at least one."""
        return self.tokens // TOKENS_PER_IMAGE

    @property
    def host_lengths(self) -> tuple[int, ...]:
        """What the host reads of the lengths while it records: the longest."""
        return (self.longest,)

    def holds(self, lengths: Sequence[int]) -> bool:
        """Whether images of these lengths fit."""
        fits = sum(lengths) <= self.tokens and max(lengths) <= self.longest
        return fits and len(lengths) < self.sequences

    def pad(self, lengths: Sequence[int]) -> list[int]:
        """The lengths of all the sequences: the images, then the padding.

        The padding is spread evenly, so that no run of it takes longer than the images do.
        """
        left, slots = self.tokens - sum(lengths), self.sequences - len(lengths)
        return [*lengths, *(left * (i + 1) // slots - left * i // slots for i in range(slots))]


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


def make_buckets(max_tokens: int) -> list[Bucket]:
    """Ascending buckets, the last of which take ``max_tokens``."""
    sizes: list[int] = []
    octave = SMALLEST_TOKENS
    while not sizes or sizes[-1] < max_tokens:
        step = octave // STEPS_PER_OCTAVE
        sizes += [octave + i * step + EXTRA_TOKENS for i in range(STEPS_PER_OCTAVE)]
        octave *= 2
    sizes = sizes[: bisect_left(sizes, max_tokens) + 1]
    return sorted(
        Bucket(tokens, tokens // part)
        for tokens in sizes
        for part in (1, 4, 16)
        if tokens // part >= SMALLEST_TOKENS or part == 1
    )


def choose_bucket(buckets: Sequence[AnyBucket], lengths: Sequence[int]) -> AnyBucket | None:
    """The smallest bucket that holds images of these lengths, if there is one."""
    return next((bucket for bucket in buckets if bucket.holds(lengths)), None)
