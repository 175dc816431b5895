import pytest
from hypothesis import given
from hypothesis import strategies as st

from vimserve.server.engine.memory import MemoryModel, fit

CURVE = MemoryModel(base=1000, per_token=20.0, per_token_squared=0.5)
LENGTHS = [[10], [20], [40], [10, 10, 10], [10, 40]]


def test_prediction():
    assert CURVE.cost(10) == 250
    assert CURVE.predict([10]) == 1250
    assert CURVE.predict([10, 10, 40]) == 1000 + 2 * 250 + 1600
    assert MemoryModel(0, 0.25).cost(5) == 2  # rounded up


def test_a_line_is_found():
    line = MemoryModel(5000, 12.0)
    found = fit([([n], line.predict([n])) for n in (197, 1025)], quadratic=False)
    assert found.base == pytest.approx(5000, abs=2)
    assert found.per_token == pytest.approx(12)
    assert found.per_token_squared == 0


def test_a_parabola_is_found_among_batches():
    found = fit([(lengths, CURVE.predict(lengths)) for lengths in LENGTHS], quadratic=True)
    assert found.base == pytest.approx(1000, abs=2)
    assert found.per_token == pytest.approx(20)
    assert found.per_token_squared == pytest.approx(0.5)


def test_what_an_image_takes_whatever_its_size_is_not_fitted():
    line = MemoryModel(5000, 12.0, per_image=300)
    found = fit([([n], line.predict([n])) for n in (197, 1025)], quadratic=False, per_image=300)
    assert found.predict([197]) == pytest.approx(line.predict([197]), abs=2)
    assert found.predict([4] * 1000) == pytest.approx(5000 + 1000 * (300 + 48), abs=10)


def test_no_coefficient_is_negative():
    concave = [([100], 1000), ([200], 1900), ([400], 3000)]
    assert fit(concave, quadratic=True).per_token_squared == 0
    convex = [([100], 100), ([200], 1000), ([300], 3000)]
    found = fit(convex, quadratic=False)
    assert found.per_token == pytest.approx(sum(n * p for (n,), p in convex) / 140_000)
    falling = [([100], 500), ([200], 400)]
    assert fit(falling, quadratic=False) == MemoryModel(500, 0.0)


def test_the_highest_of_repeated_samples_counts():
    once = fit([([100], 1500), ([200], 2500)], quadratic=False)
    twice = fit([([100], 1500), ([200], 2500), ([200], 100), ([100], 0)], quadratic=False)
    assert twice == once


@given(
    st.dictionaries(st.integers(1, 7000), st.integers(0, 10**11), min_size=3, max_size=6),
    st.booleans(),
)
def test_no_sample_is_above_the_curve(peaks, quadratic):
    model = fit([([tokens], peak) for tokens, peak in peaks.items()], quadratic=quadratic)
    assert min(model.base, model.per_token, model.per_token_squared) >= 0
    assert all(model.predict([tokens]) >= peak for tokens, peak in peaks.items())


@pytest.mark.parametrize(
    ("samples", "quadratic"),
    [
        ([], False),
        ([([197], 1)], False),
        ([([197], 1), ([197], 2)], False),
        ([([100, 100], 1), ([200], 2)], False),
        ([([197], 1), ([1025], 2)], True),
        ([([10], 1), ([10, 10], 2), ([10, 10, 10], 2)], True),
    ],
)
def test_samples_that_cannot_tell(samples, quadratic):
    with pytest.raises(ValueError, match=f"{3 if quadratic else 2} coefficients need as many"):
        fit(samples, quadratic=quadratic)
