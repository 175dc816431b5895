import io
from collections import Counter

from PIL import Image

from vimserve.loadtests.common.mix import BAD, KINDS, Mix


def test_the_same_seed_draws_the_same():
    one, same, other = Mix(1), Mix(1), Mix(2)
    first = [one.draw() for _ in range(50)]
    assert first == [same.draw() for _ in range(50)]
    assert first != [other.draw() for _ in range(50)]


def test_the_pool_has_many_sizes_shapes_and_formats():
    pool = Mix(0).pool
    assert len(pool) <= 30
    assert (min(p.side for p in pool), max(p.side for p in pool)) == (96, 1248)
    pictures = [Image.open(io.BytesIO(picture.data)) for picture in pool]
    assert {picture.format for picture in pictures} == {"JPEG", "PNG"}
    assert any(picture.width > 2 * picture.height for picture in pictures)
    assert any(picture.height > 2 * picture.width for picture in pictures)
    assert len({picture.query for picture in pool}) == 4


def test_kinds_come_as_often_as_they_should():
    mix = Mix(0)
    counts = Counter(mix.draw().kind for _ in range(2000))
    assert counts.keys() == KINDS.keys()
    for kind, percent in KINDS.items():
        assert abs(counts[kind] / 20 - percent) < 4


def test_what_may_come_of_a_request():
    mix = Mix(0, timeout_ms=5000)
    for kind in KINDS:
        request = mix.make(kind)
        assert ((200, None) in request.allowed) == (kind not in BAD)
        assert len(request.data) == 1 or request.form
        assert bool(request.pictures) == (kind not in BAD)
        assert 1 <= request.priority <= 9
        assert (request.hang_up_s is not None) == kind.startswith("gone")
