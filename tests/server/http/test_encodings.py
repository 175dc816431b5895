"""Content-Encoding of requests: decoded in small pieces, or refused by name."""

import asyncio
import gzip
import zlib

import numpy as np
import pytest

from vimserve.server.errors import MalformedEncoding, UnsupportedEncoding
from vimserve.server.http.encodings import (
    MOST_MEMBERS,
    PIECE_BYTES,
    accepted_coding,
    coding_of,
    decoded,
    encode,
)

TEXT = np.random.default_rng(0).bytes(100_000) + bytes(300_000)


def bare(data):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def stored(data):
    compressor = zlib.compressobj(0, wbits=-15)
    return compressor.compress(data) + compressor.flush()


def pieces(data, coding, size):
    async def stream():
        for start in range(0, len(data), size):
            yield data[start : start + size]
        yield b""

    async def collect():
        return [piece async for piece in decoded(stream(), coding)]

    return asyncio.run(collect())


CODED = [
    pytest.param("gzip", gzip.compress(TEXT), id="gzip"),
    pytest.param("x-gzip", gzip.compress(TEXT), id="its old name"),
    pytest.param("gzip", gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:]), id="two members"),
    pytest.param("gzip", gzip.compress(TEXT) + bytes(1000), id="padded"),
    pytest.param("gzip", gzip.compress(b"") + gzip.compress(TEXT), id="an empty member"),
    pytest.param("deflate", zlib.compress(TEXT), id="deflate"),
    pytest.param("deflate", zlib.compress(TEXT, 0), id="deflate, stored"),
    pytest.param("deflate", bare(TEXT), id="deflate without its header"),
    pytest.param("deflate", stored(TEXT), id="without its header, stored"),
]


@pytest.mark.parametrize("size", [1000, 65_536, 10_000_000])
@pytest.mark.parametrize(("coding", "data"), CODED)
def test_what_was_coded_comes_back(coding, data, size):
    parts = pieces(data, coding, size)
    assert b"".join(parts) == TEXT
    assert max(map(len, parts)) <= PIECE_BYTES


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_byte_by_byte(coding):
    data = {"gzip": gzip.compress, "deflate": bare}[coding](bytes(100_000) + b"end")
    assert b"".join(pieces(data, coding, 1)) == bytes(100_000) + b"end"


@pytest.mark.parametrize(
    ("coding", "data", "reason"),
    [
        ("gzip", gzip.compress(TEXT)[:-1], "ends before its last byte"),
        ("deflate", zlib.compress(TEXT)[:-1], "ends before its last byte"),
        ("deflate", bare(TEXT)[:-9], "ends before its last byte"),
        ("gzip", TEXT, "incorrect header"),
        ("gzip", zlib.compress(TEXT), "incorrect header"),
        ("gzip", gzip.compress(TEXT) + b"more", "incorrect header"),
        ("gzip", gzip.compress(TEXT)[:-8] + bytes(8), "incorrect data check"),
        ("deflate", zlib.compress(TEXT) + b"more", "behind its end"),
        ("deflate", b"\x07" + TEXT, "invalid block type"),
        ("gzip", (MOST_MEMBERS + 1) * gzip.compress(b""), "behind its end"),
    ],
)
def test_what_was_not_is_refused(coding, data, reason):
    with pytest.raises(MalformedEncoding, match=f"{coding}: .*{reason}") as caught:
        pieces(data, coding, 65_536)
    assert caught.value.status == 400
    assert reason in caught.value.value


def test_no_bytes_are_no_member():
    assert pieces(b"", "gzip", 1) == []


def test_others_run_while_much_is_decoded():
    """Decoding 50 MB of zeros must not keep the event loop to itself."""

    async def stream():
        yield gzip.compress(bytes(50_000_000))

    async def count():
        turns, ended = 0, False

        async def others():
            nonlocal turns
            while not ended:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        size = 0
        async for piece in decoded(stream(), "gzip"):
            size += len(piece)
        ended = True
        await task
        return size, turns

    size, turns = asyncio.run(count())
    assert size == 50_000_000
    assert turns >= size // PIECE_BYTES


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("identity", None),
        (" , Identity", None),
        ("gzip", "gzip"),
        ("GZip, ", "gzip"),
        ("x-gzip", "x-gzip"),
        ("deflate", "deflate"),
    ],
)
def test_codings_that_are_known(header, coding):
    assert coding_of(header) == coding


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, br", "gzip, gzip", "chunked"])
def test_others_are_named(header):
    with pytest.raises(UnsupportedEncoding, match=f"Content-Encoding: {header} is not") as caught:
        coding_of(header)
    assert caught.value.headers == {"Accept-Encoding": "gzip, deflate"}
    assert caught.value.problem()["limit"] == ("gzip", "deflate")


@pytest.mark.parametrize(
    ("wanted", "coding"),
    [
        ("", None),
        ("identity", None),
        ("br, zstd", None),
        ("deflate", "deflate"),
        ("deflate, gzip, br", "gzip"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("GZIP; q=0.000", None),
    ],
)
def test_what_a_client_accepts(wanted, coding):
    assert accepted_coding(wanted) == coding


@pytest.mark.parametrize(
    ("coding", "decode"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)]
)
def test_an_answer_is_what_it_was(coding, decode):
    coded = encode(TEXT, coding)
    assert len(coded) < len(TEXT)
    assert decode(coded) == TEXT
