import pytest

from tests.loadtests.soak.stub import Stub


@pytest.fixture
def stub():
    stub = Stub()
    with stub.listening():
        yield stub
