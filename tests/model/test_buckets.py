"""How far batches are padded, and that a bucket's kernels are those that its batches want."""

import pytest
import torch

from vimserve.kernels import triton_config
from vimserve.kernels.triton_config import chunk_tokens
from vimserve.model.buckets import (
    UNIT,
    Bucket,
    EqualBucket,
    choose_bucket,
    make_buckets,
    make_equal_buckets,
)
from vimserve.model.families.vim.config import VIM_SMALL, VIM_TINY, VimConfig
from vimserve.model.families.vim.model import Vim

H100 = 132  # multiprocessors
COMMON = {
    224: (1, 2, 4, 8, 16, 32, 64, 128, 256),
    **dict.fromkeys((512, 768, 1024, 1248), (1, 2, 4, 8, 16, 32)),
}


@pytest.mark.parametrize("max_tokens", [1, UNIT, UNIT + 1, 320, 8192, 100_000])
def test_buckets_ascend_to_the_largest_batch_and_waste_little(max_tokens: int) -> None:
    buckets = make_buckets(max_tokens)
    assert buckets == sorted(set(buckets))
    assert buckets[-1] == Bucket(max(UNIT, max_tokens), max(UNIT, max_tokens))
    for tokens in range(1, max_tokens, 97):
        bucket = choose_bucket(buckets, [tokens])
        assert bucket is not None
        assert bucket.tokens <= max(UNIT, 1.17 * tokens)


def test_a_bucket_is_chosen_by_tokens_longest_image_and_count() -> None:
    buckets = make_buckets(8192)
    assert choose_bucket(buckets, [197]) == Bucket(198, 198)
    assert choose_bucket(buckets, [6085]) == Bucket(6089, 6089)
    assert choose_bucket(buckets, [197] * 32) == Bucket(6336, 200)
    assert choose_bucket(buckets, [1025] * 6) == Bucket(6336, 1088)
    assert choose_bucket(buckets, [2] * 20) == Bucket(1362, 1362)
    assert choose_bucket(buckets, [8192]) == Bucket(8192, 8192)
    assert choose_bucket(buckets, [8193]) is None
    assert choose_bucket(buckets, [2] * 1000) is None


def test_padding_is_short_runs_and_empty_sequences_at_the_end() -> None:
    bucket = Bucket(640, 640)
    assert bucket.pad([300, 100]) == [300, 100, 60, 60, 60, 60, *[0] * 4]
    assert bucket.pad([639]) == [639, 1, *[0] * 8]
    assert bucket.pad([640]) == [640, *[0] * 9]
    assert bucket.pad([10] * 9) == [*[10] * 9, 550]
    assert sum(bucket.pad([])) == 640


def test_no_run_of_padding_is_longer_than_the_longest_image_may_be() -> None:
    bucket = Bucket(640, 200)
    assert bucket.holds([10] * 6)
    assert not bucket.holds([10] * 8)  # 560 tokens of padding in two runs


@pytest.mark.parametrize("config", [VIM_TINY, VIM_SMALL], ids=["tiny", "small"])
@pytest.mark.parametrize("side", COMMON)
def test_common_batches_are_hardly_padded_and_scanned_as_they_should_be(
    monkeypatch: pytest.MonkeyPatch, config: VimConfig, side: int
) -> None:
    monkeypatch.setattr(triton_config, "_multiprocessors", lambda _: H100)
    device = torch.device("meta")
    with device:
        model = Vim(config)
    length = model.num_tokens((side // 16, side // 16))
    buckets = model.graph_buckets(32 * model.num_tokens((78, 78)))
    for images in COMMON[side]:
        bucket = choose_bucket(buckets, [length] * images)
        assert isinstance(bucket, Bucket)
        tokens = length * images
        assert tokens <= bucket.tokens <= 1.035 * tokens
        shape = (2, config.inner_width, config.dt_rank)
        best = chunk_tokens(tokens, images, *shape, length, device)
        recorded = chunk_tokens(bucket.tokens, bucket.sequences, *shape, bucket.longest, device)
        assert (recorded == 0) == (best == 0), (images, best, recorded)
        assert recorded <= best + 16 + 0.05 * best


def test_a_vim_has_one_recording_for_a_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_config, "_multiprocessors", lambda _: H100)
    with torch.device("meta"):
        model = Vim(VIM_TINY)
    buckets = model.graph_buckets(65_536)
    assert len(buckets) <= 80
    assert {bucket.tokens for bucket in buckets} == {b.tokens for b in make_buckets(65_536)}
    for tokens in {bucket.tokens for bucket in buckets}:
        assert max(b.longest for b in buckets if b.tokens == tokens) == tokens


def test_buckets_of_equal_images_waste_at_most_a_third() -> None:
    buckets = make_equal_buckets([197, 577], 8192)
    assert [bucket.tokens for bucket in buckets] == sorted(bucket.tokens for bucket in buckets)
    for images in range(1, 8192 // 197 + 1):
        bucket = choose_bucket(buckets, [197] * images)
        assert isinstance(bucket, EqualBucket)
        assert bucket.tokens <= 8192
        assert images <= bucket.sequences <= 1.5 * images
        assert bucket.pad([197] * images) == [197] * bucket.sequences
    assert choose_bucket(buckets, [197, 577]) is None
    assert choose_bucket(buckets, [577] * 15) is None
    assert make_equal_buckets([197], 196) == []
