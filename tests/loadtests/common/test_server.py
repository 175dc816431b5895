import pytest

from vimserve.loadtests.common.server import serving


def test_a_server_that_does_not_start():
    message = "the server did not become ready: vimserve: "
    with pytest.raises(RuntimeError, match=message), serving(["--model", "resnet"]):
        pass
