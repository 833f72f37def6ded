"""The checker of the fault tests: it must not overlook what it is there to find."""

from __future__ import annotations

import pytest
from faults.history import History, Outcome, Row, Stored, Verdict


def history(outcome: Outcome) -> History:
    made = History()
    made.begin("batch", 3)
    made.settle("batch", outcome)
    return made


@pytest.mark.parametrize(
    ("outcome", "stored", "expected"),
    [
        (Outcome.ACKNOWLEDGED, Stored(3, 3), Verdict()),
        (Outcome.ACKNOWLEDGED, None, Verdict(lost=("batch",))),
        (Outcome.ACKNOWLEDGED, Stored(2, 2), Verdict(lost=("batch",))),
        (Outcome.ACKNOWLEDGED, Stored(6, 3), Verdict(doubled=("batch",))),
        (Outcome.ACKNOWLEDGED, Stored(4, 4), Verdict(doubled=("batch",))),
        (Outcome.ACKNOWLEDGED, Stored(3, 2), Verdict(lost=("batch",), doubled=("batch",))),
        (Outcome.REFUSED, None, Verdict()),
        (Outcome.REFUSED, Stored(3, 3), Verdict(wrong=("batch",))),
        (Outcome.UNKNOWN, None, Verdict()),
        (Outcome.UNKNOWN, Stored(3, 3), Verdict()),
        (Outcome.UNKNOWN, Stored(1, 1), Verdict(torn=("batch",))),
        (Outcome.UNKNOWN, Stored(6, 3), Verdict(doubled=("batch",))),
    ],
)
def test_a_batch_that_is_not_as_its_sender_was_told_is_found(
    outcome: Outcome, stored: Stored | None, expected: Verdict
) -> None:
    assert history(outcome).judge({"batch": stored} if stored else {}) == expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (Stored(3, 3), Verdict()),
        (Stored(6, 3), Verdict()),
        (Stored(9, 3), Verdict(doubled=("batch",))),
        (Stored(5, 3), Verdict(torn=("batch",))),
    ],
)
def test_a_batch_without_an_id_may_be_stored_as_often_as_its_sender_repeated_it(
    stored: Stored, expected: Verdict
) -> None:
    repeated = history(Outcome.ACKNOWLEDGED)
    repeated.repeat("batch")
    assert repeated.judge({"batch": stored}) == expected


def test_each_batch_counts_for_the_fault_it_was_begun_in() -> None:
    made = History()
    for number, outcome in enumerate(Outcome):
        made.fault = "cut" if outcome is Outcome.ACKNOWLEDGED else "none"
        made.begin(str(number), 2)
        made.settle(str(number), outcome)
    assert made.rows({"0": Stored(2, 2), "2": Stored(2, 2)}) == {
        "cut": Row(acknowledged=1, lost=1),
        "none": Row(unknown=1, refused=1, stored=2, wrong=1),
    }


def test_what_nobody_sent_is_found() -> None:
    verdict = history(Outcome.REFUSED).judge({"other": Stored(1, 1)})
    assert verdict == Verdict(alien=("other",))


def test_a_batch_id_is_used_once() -> None:
    with pytest.raises(ValueError, match="before"):
        history(Outcome.UNKNOWN).begin("batch", 1)
