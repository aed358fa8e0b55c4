"""What comes too late for a real appliance: credentials that have run out, and updates after their round.

Admissions last five seconds here and attempts three. One silo is late with everything; nothing is held against it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from hostile_scene import audit_of
from least_squares_oracle import TASK
from process_federation import PATIENCE_SECONDS, ProcessFederation, federation, wait_until
from silo_by_hand import UNSIGNED, HandSilo, drive

from audit.entries import Entry, RoundAbandoned, RoundOpened, RoundPublished, SiloRefused, UpdateRefused
from protocol.errors import ProtocolError, RefusedError
from protocol.sealing.bytes_io import read
from protocol.wire.methods import upload_metadata
from silo_client.machine import Train

# It waits for credentials and rounds to run out.
pytestmark = pytest.mark.slow
torch.set_num_threads(1)
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
CREDENTIAL_SECONDS, DEADLINE_SECONDS = 5, 3


@dataclass
class Told:
    """What the story came to. `answers`: what the late silo was told, by what it was late with."""

    made: ProcessFederation
    first: RoundOpened
    answers: dict[str, str] = field(default_factory=dict)
    downloaded: bytes = b""
    ended: list[Entry] = field(default_factory=list)
    cohort: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    replace = {
        "round_deadline_seconds = 60": f"round_deadline_seconds = {DEADLINE_SECONDS}",
        "credential_seconds = 3600": f"credential_seconds = {CREDENTIAL_SECONDS}",
    }
    network = torch.nn.Linear(3, 1, bias=False)
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS) as made:
        made.start_appliance()
        yield story(made)


def story(made: ProcessFederation) -> Told:
    silos = [HandSilo(made, name) for name in made.names]
    late = silos[-1]
    told = Told(made, announced(silos))
    answers, update = told.answers, late.good()

    # The first half of an update, and then the deadline. Nobody else stays for another attempt.
    half = len(update.blob) // 2
    metadata = upload_metadata(upload_id=update.header.upload_id, offset=0, size=len(update.blob))
    with late.wire() as wire:
        assert wire.upload([update.blob[:half]], metadata).refusal.found == str(half)
    for silo in silos[:-1]:
        silo.leave()
    wait_until(lambda: made.entries(RoundAbandoned), "the attempt to end by its deadline")
    told.ended = made.log()

    # The credential runs out, while TLS still lets the silo in to be told so.
    credential = late.machine.enrolled.credential
    wait_until(lambda: time.time() > credential.expires, "the credential to run out")
    answers["a message in its session"] = refusal(lambda: say_and_hear(late))
    late.channel.connect(credential)
    answers["a session"] = refusal(lambda: say_and_hear(late))
    late.channel.connect(credential)
    answers["an update"] = refusal(lambda: late.upload(update.blob, update.header.upload_id))
    told.downloaded = download(late)

    # It is admitted again. Its update is for an attempt that is over.
    late.channel.connect(late.enrol())
    answers["the second half of an update"] = refusal(lambda: late.upload(update.blob, update.header.upload_id))
    answers["a whole update"] = refusal(lambda: late.upload(late.good().blob))

    # The others come back: the same for an update of the attempt before. Then everybody is in time.
    announced(silos)
    late.enrol()
    answers["an update of the attempt before"] = refusal(lambda: late.upload(update.blob))
    told.cohort = everybody_in_time(silos)
    return told


def announced(silos: list[HandSilo]) -> RoundOpened:
    """Let everybody enrol and join, again if that takes longer than a credential lasts, until an attempt is open."""
    made = silos[0].made
    deadline = time.monotonic() + PATIENCE_SECONDS

    def entry() -> RoundOpened | None:
        newest = silos[0].opened
        current = newest is not None and newest == made.log()[-1] and all(silo.opened == newest for silo in silos)
        return newest if current else None

    while time.monotonic() < deadline:
        for silo in silos:
            silo.join()
        try:
            drive(silos, entry, "an attempt", seconds=CREDENTIAL_SECONDS)
        except (AssertionError, ProtocolError):
            continue
        found = entry()
        if found is not None:
            return found
    raise AssertionError("no attempt was announced to everybody")


def everybody_in_time(silos: list[HandSilo]) -> tuple[str, ...]:
    """Submit until a round has everybody's update: on a slow machine that may take more than one attempt."""
    made = silos[0].made
    for _ in range(10):
        announced(silos)
        try:
            for silo in silos:
                silo.submit()
        except RefusedError:
            continue
        wait_until(lambda: isinstance(made.log()[-1], RoundOpened), "the next attempt")
        published = made.entries(RoundPublished)
        if published and len(published[-1].cohort) == len(silos):
            return tuple(member.silo for member in published[-1].cohort)
    raise AssertionError("nobody was ever in time")


def say_and_hear(silo: HandSilo) -> None:
    silo.channel.send(silo.machine.join())
    while silo.channel.receive(PATIENCE_SECONDS) is not None:
        pass


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        act()
    return str(caught.value)


def download(silo: HandSilo) -> bytes:
    body = next(step for step in reversed(silo.steps) if isinstance(step, Train)).model
    source = silo.channel.download(body.name, limit_bytes=2**20)
    return read(source, 0, source.size())


@pytest.mark.parametrize("late_with", ["a message in its session", "a session", "an update"])
def test_a_credential_that_has_run_out_is_refused_in_words(told: Told, late_with: str) -> None:
    answer = told.answers[late_with]
    assert answer.startswith("credential-expired: expected a credential that is still valid, found one that expired ")
    assert answer.endswith(
        f"; enrol again (`strongroom silo enroll`); clients renew at two thirds of its life{UNSIGNED}"
    )


def test_what_it_can_still_download_is_sealed(told: Told) -> None:
    """To whoever gets the key of the body, which is told in a session."""
    assert told.downloaded.startswith(b"strongroom-blob/1\n")
    assert b'"kind":"model"' in told.downloaded


@pytest.mark.parametrize("late_with", ["the second half of an update", "a whole update"])
def test_an_update_that_is_complete_after_the_deadline(told: Told, late_with: str) -> None:
    first = told.first
    assert told.answers[late_with] == (
        "round-closed: expected an update while a round collects them, found one for "
        f"round {first.round} attempt {first.attempt} while none does; wait for the next announcement; it says what "
        f"became of this update{UNSIGNED}"
    )


def test_an_update_that_is_complete_while_the_next_attempt_collects(told: Told) -> None:
    assert told.answers["an update of the attempt before"].startswith("wrong-round: expected attempt ")
    assert told.answers["an update of the attempt before"].endswith(f"; train on the newest announcement{UNSIGNED}")


def test_the_attempt_ends_without_the_late_silo(told: Told) -> None:
    ending = told.ended[-1]
    assert isinstance(ending, RoundAbandoned)
    assert (ending.reason, ending.silo) == ("below-minimum-cohort", None)
    assert (ending.round, ending.attempt) == (told.first.round, told.first.attempt)
    assert ending.time >= told.first.time + DEADLINE_SECONDS


def test_being_late_is_held_against_nobody(told: Told) -> None:
    assert told.made.entries(UpdateRefused) == []
    assert told.made.entries(SiloRefused) == []
    assert told.cohort == told.made.names


def test_the_audit_passes(told: Told) -> None:
    assert audit_of(told.made).startswith("PASS (simulated: protects nothing)")
