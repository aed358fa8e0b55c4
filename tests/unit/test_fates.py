"""The count of what became of every update can fail: each kind of loss is found, in a log or in what a silo heard."""

from dataclasses import replace

import pytest
from fates import Fates

from audit.entries import CohortMember, Entry, RoundAbandoned, RoundPublished, UpdateAccepted


def accepted(silo: str, number: int, attempt: int = 1) -> UpdateAccepted:
    upload_id = bytes([int(silo[-1]), number, attempt]).ljust(16, b"\0")
    return UpdateAccepted(
        time=0, round=number, attempt=attempt, silo=silo, upload_id=upload_id, update=bytes(32), parent=None
    )


def published(number: int, *updates: UpdateAccepted, attempt: int = 1) -> RoundPublished:
    cohort = tuple(
        CohortMember(silo=update.silo, upload_id=update.upload_id, update=update.update, weight=1.0)
        for update in updates
    )
    return RoundPublished(
        time=0,
        round=number,
        attempt=attempt,
        model_in=bytes(32),
        model_out=bytes(32),
        control_in=None,
        control_out=None,
        cohort=cohort,
        state=bytes(32),
    )


def abandoned(number: int, attempt: int = 1) -> RoundAbandoned:
    return RoundAbandoned(time=0, round=number, attempt=attempt, reason="restart", silo=None)


ONE, OTHER = accepted("silo-0", 1), accepted("silo-1", 1)


def event(kind: str, **facts: object) -> dict[str, object]:
    return {"event": kind, "text": kind, "round": 1, "attempt": 1, **facts}


def test_used_and_repeated_updates_are_counted() -> None:
    again = accepted("silo-0", 1, 2)
    fates = Fates.of([ONE, OTHER, abandoned(1), again, published(1, again, attempt=2)], [])
    assert fates.losses == []
    assert (fates.accepted, fates.used, fates.repeated, fates.not_repeated) == (3, 1, 1, 1)
    assert fates.abandoned == {"restart": 1}


@pytest.mark.parametrize(
    ("log", "told", "loss"),
    [
        (
            [ONE, OTHER, published(1, ONE)],
            [],
            "silo-1's update for round 1, attempt 1: accepted, and not in the cohort",
        ),
        ([ONE], [], "silo-0's update for round 1, attempt 1: the attempt has no end"),
        ([ONE, published(1, ONE), published(2, ONE)], [], "is in 2 cohorts"),
        ([ONE, published(1, ONE, OTHER)], [], "is in 1 cohorts"),
        ([abandoned(1)], [event("submitted")], "was told that its update (1, 1) was accepted"),
        ([OTHER, published(1, OTHER)], [event("outcome", used=True)], "silo-0 was told 'outcome'"),
        ([ONE, published(1, ONE)], [event("outcome", used=False)], "silo-0 was told 'outcome'"),
    ],
)
def test_a_loss_is_a_sentence(log: list[Entry], told: list[dict[str, object]], loss: str) -> None:
    [found] = Fates.of(log, [("silo-0", told)]).losses
    assert loss in found


def test_a_silo_that_lost_its_memory_may_hear_that_another_update_of_its_own_was_used() -> None:
    log = [ONE, published(1, replace(ONE))]
    assert Fates.of(log, [("silo-0", [event("outcome", used=False, foreign=True)])]).losses == []
