"""Which case gets the next round, against a made-up clock."""

from collections import Counter

import pytest

from vimserve.loadtests.compare.intervals import LEAST_ROUNDS
from vimserve.loadtests.compare.results import Case
from vimserve.loadtests.compare.rounds import FIRST_SHARE, expected_s, order, take_rounds

CLAIM, SMALL, SMALL_HTTP, LARGE_HTTP = (
    Case(1248), Case(224), Case.http(224, 4), Case.http(1248, 4),
)  # fmt: skip
COSTS = {CLAIM: 8.0, SMALL: 1.5, SMALL_HTTP: 2.0, LARGE_HTTP: 30.0}


class Player:
    """A round of a case takes what it costs; a case settles after so many rounds, or never."""

    def __init__(self, settle=None, start_s=0.0):
        self.now, self.played = 100.0, []
        self._settle = settle or {}
        self._start_s = start_s

    def play(self, case):
        self.now += COSTS[case] + self._start_s
        self._start_s = 0
        self.played.append(case)
        return COSTS[case]

    def settled(self, case):
        return self.played.count(case) >= self._settle.get(case, LEAST_ROUNDS)

    def run(self, seconds, cases=tuple(COSTS)):
        take_rounds(cases, self.play, self.settled, seconds, lambda: self.now)
        return self.played


def test_all_cases_settle_the_claim_first():
    player = Player()
    played = player.run(seconds=3600)
    assert played[:LEAST_ROUNDS] == [CLAIM] * LEAST_ROUNDS
    assert Counter(played) == dict.fromkeys(COSTS, LEAST_ROUNDS)
    assert played[-LEAST_ROUNDS:] == [LARGE_HTTP] * LEAST_ROUNDS  # cheap results come first


def test_a_claim_that_does_not_settle_leaves_time_for_the_others():
    player = Player(settle={CLAIM: 1000})
    played = player.run(seconds=200)
    first = played.index(SMALL)
    assert first * COSTS[CLAIM] == pytest.approx(200 * FIRST_SHARE, abs=COSTS[CLAIM])
    assert {SMALL, SMALL_HTTP} <= set(played)
    assert Counter(played)[SMALL_HTTP] == LEAST_ROUNDS
    assert player.now <= 300


def test_a_small_case_that_does_not_settle_keeps_no_other_from_its_rounds():
    player = Player(settle={SMALL: 1000})
    counts = Counter(player.run(seconds=600))
    assert counts[LARGE_HTTP] == LEAST_ROUNDS
    assert counts[SMALL] * COSTS[SMALL] > LEAST_ROUNDS * COSTS[LARGE_HTTP]


def test_no_round_begins_that_does_not_fit():
    player = Player()
    played = player.run(seconds=LEAST_ROUNDS * (8 + 1.5 + 2) + 29)
    # One of the large case's four clients waits for as long as a round of the bare models takes.
    assert LARGE_HTTP not in played
    assert Counter(played)[SMALL_HTTP] == LEAST_ROUNDS


def test_the_claim_gets_a_round_however_little_time_there_is():
    assert Player().run(seconds=0.01) == [CLAIM]


def test_what_starts_the_models_does_not_count_as_a_rounds_time():
    player = Player(start_s=50)
    assert player.run(seconds=50 + 8 + 8.5, cases=(CLAIM,)) == [CLAIM] * 2


def test_every_other_round_goes_backwards():
    assert [order("abc", number) for number in range(3)] == ["abc", "cba", "abc"]


def test_nothing_to_do():
    assert Player(settle=dict.fromkeys(COSTS, 0)).run(seconds=100) == []


def test_a_backbone_alone_is_not_expected_to_take_as_long_as_all():
    whole, alone = Case(1248), Case(1248, backbone=True)
    assert expected_s(alone, {whole: [8.0], alone: []}) == 0
    assert expected_s(Case.http(1248, 2), {whole: [8.0], Case.http(1248, 2): []}) == 16
