import pytest

from vimserve.model.samples import SampleRange, parse_bands, parse_range


@pytest.mark.parametrize(
    ("text", "kind", "low", "high"),
    [
        ("dtype", "dtype", 0, 0),
        ("0,4095", "values", 0, 4095),
        ("-1000, 2.5e3", "values", -1000, 2500),
        ("p2,p98", "percentiles", 2, 98),
        ("p0,p99.5", "percentiles", 0, 99.5),
    ],
)
def test_a_range_and_back(text, kind, low, high):
    parsed = parse_range(text)
    assert parsed == SampleRange(kind, low, high)
    assert parse_range(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    ["", ",", "1", "1,2,3", "2,1", "1,1", "a,b", "nan,1", "0,inf", "p2,98", "p-1,p50", "p2,p101"],
)
def test_no_range(text):
    with pytest.raises(ValueError, match=r"^dtype, two numbers such as 0,4095"):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "bands"), [("4,3,2", (4, 3, 2)), ("7", (7,)), ("1, 1,1", (1,) * 3)]
)
def test_bands(text, bands):
    assert parse_bands(text) == bands


@pytest.mark.parametrize(
    "text", ["", "0", "1,2", "1,2,3,4", "-1", "1.5", "a", "²", "1,,3", "999999"]
)
def test_no_bands(text):
    with pytest.raises(ValueError, match="one or three numbers of bands"):
        parse_bands(text)
