import pytest

from vimserve.model.buckets import (
    EXTRA_TOKENS,
    Bucket,
    EqualBucket,
    choose_bucket,
    make_buckets,
    make_equal_buckets,
)


@pytest.mark.parametrize("max_tokens", [1, 320, 321, 8192, 100_000])
def test_buckets_ascend_to_the_largest_batch_and_waste_little(max_tokens: int) -> None:
    buckets = make_buckets(max_tokens)
    assert buckets == sorted(set(buckets))
    assert buckets[-1].tokens >= max_tokens
    assert buckets[-1].tokens <= 1.25 * max_tokens or buckets[-1] == Bucket(320, 320)
    assert len(buckets) < 120
    for tokens in range(1, max_tokens, 97):
        bucket = choose_bucket(buckets, [tokens])
        assert bucket is not None
        assert bucket.tokens <= max(320, 1.25 * tokens + EXTRA_TOKENS)


def test_a_bucket_is_chosen_by_tokens_longest_image_and_count() -> None:
    buckets = make_buckets(8192)
    assert choose_bucket(buckets, [197]) == Bucket(320, 320)
    assert choose_bucket(buckets, [6085]) == Bucket(6208, 6208)
    assert choose_bucket(buckets, [197] * 31) == Bucket(6208, 6208 // 16)
    assert choose_bucket(buckets, [1025] * 5) == Bucket(6208 - 1024, (6208 - 1024) // 4)
    assert choose_bucket(buckets, [2] * 20) == Bucket(1344, 336)
    assert choose_bucket(buckets, [8193]) is None or buckets[-1].tokens > 8192
    assert choose_bucket(buckets, [2] * 1000) is None


def test_padding_is_spread_over_the_free_sequences() -> None:
    bucket = Bucket(640, 640)
    assert bucket.pad([300, 100]) == [300, 100, 30, 30, 30, 30, 30, 30, 30, 30]
    assert bucket.pad([639]) == [639, *[0] * 8, 1]
    assert sum(bucket.pad([])) == 640


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
