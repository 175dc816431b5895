"""How models share a device's memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.paths import ROOT
from tests.server.engine import cards
from vimserve.model.device_memory import Usage
from vimserve.server.engine.plan import Demand, largest_batch, room, table

BYTES = st.integers(0, 2**37)
DEMANDS = st.lists(
    st.builds(
        Demand,
        model=st.just("m"),
        weights=BYTES,
        batch=BYTES,
        workspace=st.sampled_from([0, 2**23, 2**25]),
        graphs=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def taken(demands: list[Demand], most: int, reserved: int) -> int:
    pools = sum(min(d.batch, most) + d.workspace for d in demands if d.graphs)
    return pools + max(reserved, *(min(d.batch, most) for d in demands), 0)


@given(DEMANDS, BYTES, st.integers(0, 2**34))
def test_the_largest_batch_fits_and_a_larger_one_would_not(
    demands: list[Demand], room: int, reserved: int
) -> None:
    most = largest_batch(demands, room, reserved)
    if most:
        assert taken(demands, most, reserved) <= room
    if most < max(demand.batch for demand in demands):
        assert taken(demands, most + 1, reserved) > room


def demand(batch: int, *, graphs: bool = True) -> Demand:
    return Demand("m", weights=0, batch=batch, workspace=0, graphs=graphs)


@pytest.mark.parametrize(
    ("demands", "room", "reserved", "most"),
    [
        ([demand(100)], 1000, 0, 100),
        ([demand(800)], 1000, 0, 500),  # its graphs, and a batch outside them
        ([demand(800, graphs=False)], 1000, 0, 800),
        ([demand(1200, graphs=False)] * 3, 1000, 0, 1000),  # they take turns
        ([demand(100), demand(9000)], 1000, 0, 450),
        ([demand(800)], 1000, 700, 300),
        ([demand(800)], 1000, 1000, 0),
    ],
)
def test_shares_by_hand(demands: list[Demand], room: int, reserved: int, most: int) -> None:
    assert largest_batch(demands, room, reserved) == most


def test_room_is_left_of_the_fraction_of_what_other_processes_leave() -> None:
    assert room(Usage(free=700, held=200, graphs=100), 0.8) == 500
    assert room(Usage(free=100, held=200, graphs=700), 0.8) == -100
    assert room(Usage(free=1000, held=0, graphs=0), 0.5) == 500


def test_the_table() -> None:
    demands = [
        Demand("vim-tiny", 14_300_000, 450_000_000, 33_554_432, graphs=True),
        Demand("demo-seg", 8_000_000, 2_000_000_000, 33_554_432, graphs=False),
    ]
    usage = Usage(free=9_400_000_000, held=100_000_000, graphs=500_000_000)
    assert table(demands, [500_000_000, 0], usage, 0.8).splitlines() == [
        "memory in MB                   weights    graphs     batch",
        "  vim-tiny                        14.3     500.0     450.0",
        "  demo-seg                         8.0       0.0   2,000.0",
        "  held                           100.0     500.0",
        "  8,000.0 of 10,000.0 may be taken: 7,400.0 are left for the batch that runs",
    ]


def test_the_documents_have_the_plan_of_the_models_of_compose() -> None:
    assert f"\n\n{cards.table()}\n\n" in (ROOT / "docs" / "deploy.md").read_text()
    compose = (ROOT / "docker" / "compose.yaml").read_text()
    assert f"VIMSERVE_MODEL:-{','.join(cards.MODELS)}" in compose
