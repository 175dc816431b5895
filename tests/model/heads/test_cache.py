import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from vimserve.model.heads.cache import FeatureCache

ROOM = 1 << 20
# Puts numbered rows until it is killed, and says when the first are there.
ENDLESS = """
import sys
from itertools import count
from pathlib import Path
import numpy as np
from vimserve.model.heads.cache import FeatureCache

cache = FeatureCache(Path(sys.argv[1]), "key", (64,), 1 << 30)
for i in count():
    cache.put(f"row {i}", np.full(64, i, np.float32))
    if i == 500:
        print("ready", flush=True)
"""


def row(value: float, width: int = 4) -> np.ndarray:
    return np.full(width, value, np.float32)


def test_what_is_put_is_there_in_the_next_process_s_cache(tmp_path: Path) -> None:
    with FeatureCache(tmp_path, "key", (2, 3), ROOM) as cache:
        assert cache.missing(["a", "ü,\n", "a"]) == ["a", "ü,\n"]
        for number, name in enumerate(["a", "ü,\n"]):
            cache.put(name, np.arange(6, dtype=np.float32).reshape(2, 3) + number)
        before = cache.get("a")
    with FeatureCache(tmp_path, "key", (2, 3), ROOM) as cache:
        assert cache.missing(["ü,\n", "b", "a"]) == ["b"]
        cache.put("b", np.zeros((2, 3), np.float32))
        assert cache.get("ü,\n").tolist() == [[1, 2, 3], [4, 5, 6]]
        assert not cache.get("a").flags.writeable
        both = cache.take(["ü,\n", "a"])
        assert both.tolist() == [cache.get(one).tolist() for one in ("ü,\n", "a")]
        with pytest.raises(KeyError):
            cache.get("c")
    assert before.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_half_precision_takes_half_the_room(tmp_path: Path) -> None:
    with FeatureCache(tmp_path, "key", (4,), ROOM, dtype=np.float16) as cache:
        cache.put("a", row(1 / 3))
        assert cache.get("a").dtype == np.float16
    assert [file.stat().st_size for file in tmp_path.glob("*.rows")] == [8]


@pytest.mark.parametrize(
    ("key", "shape", "dtype"),
    [("other", (4,), np.float32), ("key", (2, 2), np.float32), ("key", (4,), np.float16)],
)
def test_another_key_shape_or_precision_is_another_cache(tmp_path, key, shape, dtype) -> None:
    with FeatureCache(tmp_path, "key", (4,), ROOM) as cache:
        cache.put("a", row(1))
    with FeatureCache(tmp_path, key, shape, ROOM, dtype=dtype) as cache:
        assert cache.missing(["a"]) == ["a"]


def test_a_killed_process_leaves_whole_rows(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    with FeatureCache(tmp_path, "key", (64,), ROOM) as cache:
        count = len(cache)
        assert count >= 500
        assert all((cache.get(f"row {i}") == i).all() for i in range(count))
        cache.put("next", row(-1, 64))
        assert cache.get("next").tolist() == [-1] * 64


@pytest.mark.parametrize("cut", [1, 9, 16, 17])
def test_rows_and_lines_that_were_cut_off_are_computed_anew(tmp_path: Path, cut: int) -> None:
    with FeatureCache(tmp_path, "key", (4,), ROOM) as cache:
        for name in "abc":
            cache.put(name, row(ord(name)))
    (rows,), (names,) = tmp_path.glob("*.rows"), tmp_path.glob("*.names")
    os.truncate(rows, 3 * 16 - cut)
    os.truncate(names, names.stat().st_size - 2)
    with FeatureCache(tmp_path, "key", (4,), ROOM) as cache:
        left = ["c"] if cut < 17 else ["b", "c"]
        assert cache.missing(["a", "b", "c"]) == left
        for name in left:
            cache.put(name, row(7))
        assert [cache.get(name)[0] for name in "ac"] == [ord("a"), 7]


def test_it_refuses_what_has_no_room_before_any_work(tmp_path: Path) -> None:
    with FeatureCache(tmp_path, "key", (4,), 32) as cache:
        with pytest.raises(ValueError, match="3 pictures take 48 bytes, more than the 32"):
            cache.missing(["a", "b", "c"])
        cache.put("a", row(1))
        cache.put("b", row(1))
        with pytest.raises(ValueError, match="48 bytes, more than the 32"):
            cache.put("c", row(1))
        with pytest.raises(ValueError, match=r"c: \[5\] instead of \[4\]"):
            cache.put("c", row(1, 5))


def test_rows_that_nobody_wants_any_more_make_room(tmp_path: Path) -> None:
    with FeatureCache(tmp_path, "key", (4,), 32) as cache:
        cache.put("a", row(1))
        cache.put("b", row(2))
        kept = cache.get("b")
        assert cache.missing(["b", "c"]) == ["b", "c"]
        cache.put("c", row(3))
        assert (kept == 2).all()
        assert (cache.get("c") == 3).all()


def test_the_caches_that_were_used_first_make_room(tmp_path: Path) -> None:
    for age, key in enumerate(["new", "old", "older"]):
        with FeatureCache(tmp_path, key, (4,), 64) as cache:
            cache.put("a", row(1))
        (file,) = (one for one in tmp_path.glob("*.rows") if one.stat().st_mtime > 1e9)
        os.utime(file, (1e6 - age, 1e6 - age))
    with FeatureCache(tmp_path, "mine", (4,), 64) as cache:
        assert cache.missing(["a", "b", "c"]) == ["a", "b", "c"]
        for name in "abc":
            cache.put(name, row(1))
    sizes = [file.stat().st_size for file in tmp_path.glob("*.rows")]
    assert sorted(sizes) == [16, 48]
    assert len([*tmp_path.glob("*.names")]) == 2
    with FeatureCache(tmp_path, "new", (4,), 64) as cache:
        assert cache.missing(["a"]) == []


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with FeatureCache(tmp_path, "key", (4,), ROOM):
        with pytest.raises(ValueError, match="another process uses the features in"):
            FeatureCache(tmp_path, "key", (4,), ROOM)
        FeatureCache(tmp_path, "other", (4,), ROOM).close()
    FeatureCache(tmp_path, "key", (4,), ROOM).close()


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """As if the disk were full at this size of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [16, 24])
def test_a_full_disk_is_one_line_and_leaves_whole_rows(tmp_path: Path, room: int) -> None:
    with FeatureCache(tmp_path, "key", (4,), ROOM) as cache:
        cache.put("a", row(1))
        with (
            files_of_at_most(room),
            pytest.raises(OSError, match=f"cannot be kept in {tmp_path}: File too large") as caught,
        ):
            cache.put("b", row(2))
        assert "\n" not in str(caught.value)
        cache.put("b", row(3))
        assert [cache.get(name)[0] for name in "ab"] == [1, 3]
    with FeatureCache(tmp_path, "key", (4,), ROOM) as cache:
        assert [cache.get(name)[0] for name in "ab"] == [1, 3]


def test_a_full_disk_cuts_no_line_in_two(tmp_path: Path) -> None:
    with FeatureCache(tmp_path, "key", (4,), ROOM) as cache:
        with files_of_at_most(20), pytest.raises(OSError, match="File too large"):
            cache.put("a name of more than twenty bytes", row(1))
        cache.put("b", row(2))
    (names,) = tmp_path.glob("*.names")
    assert names.read_text() == '"b"\n'
    with FeatureCache(tmp_path, "key", (4,), ROOM) as cache:
        assert (cache.get("b") == 2).all()
