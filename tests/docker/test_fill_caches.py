import importlib
import os
import sys
from unittest import mock

from tests.docker.tools import DOCKER
from tests.processes import in_a_process


def compile_kernels(cache):
    """How many kernels one model launches on an H100."""
    os.environ["TRITON_CACHE_DIR"] = str(cache)
    sys.path.insert(0, str(DOCKER))
    fill_caches = importlib.import_module("fill_caches")
    with mock.patch.object(fill_caches, "PUBLISHED", ("vim-tiny",)):
        return fill_caches.fill_triton(90)


def test_kernels_compile_into_the_caches_once(tmp_path):
    kernels = in_a_process(compile_kernels, tmp_path)
    cubins = set(tmp_path.rglob("*.cubin"))
    assert len(cubins) == kernels >= 5
    written = {file: file.stat().st_mtime_ns for file in cubins}
    assert in_a_process(compile_kernels, tmp_path) == kernels
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.cubin")} == written
