import pytest
from pydantic import TypeAdapter, ValidationError

from vimserve.server.config.settings import Collector, Origin, RootPath, split_list, split_models


@pytest.mark.parametrize(
    ("text", "items"),
    [("a,b", ["a", "b"]), (" a ,\tb\n", ["a", "b"]), ("a,,b,", ["a", "b"]), (" , ", [])],
)
def test_lists(text, items):
    assert split_list(text) == items


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("demo, vim-tiny", ["demo", "vim-tiny"]),
        ("a=./x.pth,demo", ["a=./x.pth", "demo"]),
        ("seg=F?out_indices=1,3,5,7", ["seg=F?out_indices=1,3,5,7"]),
        ("seg=F?out_indices=1, 3, 5 ,7", ["seg=F?out_indices=1,3,5,7"]),
        ("s=F?o=1,3,demo", ["s=F?o=1,3", "demo"]),
        ("s=F?o=1,3,t=G,demo", ["s=F?o=1,3", "t=G", "demo"]),
        ("s=F?o=1,3&labels=L,t=G?o=2,4", ["s=F?o=1,3&labels=L", "t=G?o=2,4"]),
        ("s=F?o=1,3,5&p=2,4,vim-tiny", ["s=F?o=1,3,5&p=2,4", "vim-tiny"]),
        ("s=F?o=p2,p98&labels=L,demo", ["s=F?o=p2,p98&labels=L", "demo"]),
        ("demo,vim-tny", ["demo", "vim-tny"]),
    ],
)
def test_models(text, models):
    assert split_models(text) == models


@pytest.mark.parametrize(
    ("given", "path"),
    [("/vision", "/vision"), ("/vision/", "/vision"), ("/a/b-c_d.e~1", "/a/b-c_d.e~1"), ("/", "")],
)
def test_prefixes(given, path):
    assert TypeAdapter(RootPath).validate_python(given) == path


@pytest.mark.parametrize(
    "given", ["vision", "//evil.example", "/a//b", "/a b", "/a?b", "/ä", "https://example.org/a"]
)
def test_what_is_no_prefix(given):
    with pytest.raises(ValidationError, match="a prefix begins with a slash"):
        TypeAdapter(RootPath).validate_python(given)


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTP://Localhost:3000", "http://localhost:3000"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("*", "*"),
    ],
)
def test_origins(given, origin):
    assert TypeAdapter(Origin).validate_python(given) == origin


@pytest.mark.parametrize(
    "given",
    ["example.org", "https://example.org/", "https://example.org/a", "null", "https://*.a.org",
     "https://", "ftp://example.org", "https://me@example.org", "https://example.org "],
)  # fmt: skip
def test_what_is_no_origin(given):
    with pytest.raises(ValidationError, match="an origin is SCHEME://HOST"):
        TypeAdapter(Origin).validate_python(given)


@pytest.mark.parametrize(
    "given",
    [
        "http://127.0.0.1:4318",
        "https://otel.example.org/otlp/v1",
        "http://[::1]:4318/",
        "http://my_jaeger",
    ],
)
def test_collectors(given):
    assert TypeAdapter(Collector).validate_python(given) == given


@pytest.mark.parametrize(
    "given",
    ["localhost:4318", "grpc://a:4317", "http://", "http://key@a", "http://a?key=1", "http://a b"],
)
def test_what_is_no_collector(given):
    with pytest.raises(ValidationError, match="a collector is http://HOST:PORT"):
        TypeAdapter(Collector).validate_python(given)
