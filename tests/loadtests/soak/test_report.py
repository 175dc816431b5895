import pytest

from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.common.process import Usage
from vimserve.loadtests.soak.report import Report


def outcome(end_s, *, sent_late_by_s=0.0):
    return Outcome(
        "single", side=300, due_s=5, lag_s=sent_late_by_s, latency_s=end_s, timeout_s=0.4,
        status=200,
    )  # fmt: skip


def test_an_answer_that_comes_late_is_a_failure():
    judged = Report(1, sent=3)
    judged.add_outcomes([outcome(0.3), outcome(1.39), outcome(1.6)])
    assert judged.failures == [
        "1 answers came late, one 1.20 s after its deadline of 0.4 s",
    ]


def test_a_deadline_counts_from_when_the_request_was_sent():
    judged = Report(1, sent=1)
    judged.add_outcomes([outcome(1.6, sent_late_by_s=0.5)])
    assert judged.failures == []
    assert judged.longest_lag_s == 0.5
    assert judged.latency["to 512"].longest == pytest.approx(1.6)


def test_a_request_that_is_lost_is_a_failure():
    judged = Report(1, sent=2)
    judged.add_outcomes([outcome(0.3)])
    assert judged.failures == ["2 were sent, 1 ended"]


def test_what_a_process_keeps_is_a_failure():
    judged = Report(1)
    judged.add_usage(Usage(0, 10, 10), Usage(0, 12, 14))
    assert judged.failures == []
    judged.add_usage(Usage(0, 10, 10), Usage(0, 13, 15))
    assert judged.failures == ["threads: 10 before, 15 after", "descriptors: 10 before, 13 after"]
