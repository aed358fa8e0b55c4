"""The host's clock moves between two looks at it, and deadlines are deadlines: neither ends the enclave nor a round."""

from collections.abc import Callable, Iterator

import pytest
from memory_federation import MemoryFederation, MemorySilo

from audit.entries import UpdateAccepted, parse_entry
from protocol.errors import RefusalCode, RefusedError
from protocol.session import Announcement, parse_to_silo


def federation_of(rounds: int) -> MemoryFederation:
    federation = MemoryFederation(replace={"rounds = 40": f"rounds = {rounds}"})
    federation.enrol_all()
    return federation


def looks(before: int, times: int) -> Callable[[], int]:
    """A clock that says `before` so many times and then, for ever, a second more."""

    def said() -> Iterator[int]:
        for _ in range(times):
            yield before
        while True:
            yield before + 1

    clock = said()
    return lambda: next(clock)


def test_an_admission_that_ends_between_two_looks_at_the_clock_ends_only_itself() -> None:
    """The entry's time and the admission's are compared by the transition table, too: a difference is fatal."""
    federation = federation_of(1)
    expires = federation.now + federation.agreement.federation.credential_seconds
    upload = federation.upload
    seen: list[str] = []

    def at_the_last_second(silo: MemorySilo) -> None:
        if silo.name != "silo-3":
            upload(silo)
            return
        pending = silo.machine.state.open_pending()
        ledger = federation.enclave._ledger
        # One look when the upload begins, one when it ends, and then the second is over.
        clock, ledger._clock = ledger._clock, looks(expires - 1, 2)
        try:
            federation.enclave.complete("silo-3", pending)
            seen.append("accepted")
        except RefusedError as error:
            seen.append(str(error.refusal.code))
        finally:
            ledger._clock = clock

    federation.upload = at_the_last_second  # type: ignore[method-assign]
    federation.run(until=lambda: bool(seen))
    assert seen[0] in ("accepted", "credential-expired")


def test_everybody_hears_the_announcement_though_admissions_end_meanwhile() -> None:
    federation = federation_of(1)
    expires = federation.now + federation.agreement.federation.credential_seconds
    receive = federation.enclave.receive
    ledger = federation.enclave._ledger

    def at_the_last_second(silo: str, message: bytes) -> None:
        votes = federation.enclave._release._votes
        if votes is not None and len(votes.lines) == 2 and b"cosigned" in message:
            # One look for the voter's own admission, one for who is here.
            clock, ledger._clock = ledger._clock, looks(expires - 1, 2)
            receive(silo, message)
            ledger._clock = clock
        else:
            receive(silo, message)

    federation.enclave.receive = at_the_last_second  # type: ignore[method-assign]
    federation.run(until=lambda: federation.enclave._release._cosigned_note is not None)
    announced = [silo for silo, message in federation.outbox if isinstance(parse_to_silo(message), Announcement)]
    assert sorted(set(announced)) == ["silo-0", "silo-1", "silo-2", "silo-3"]


def test_an_upload_that_is_complete_after_the_deadline_is_too_late() -> None:
    """Else two silos could keep a round open for ever, as it waits for uploads that are being judged."""
    federation = federation_of(1)
    upload = federation.upload
    federation.upload = lambda silo: None if silo.name == "silo-3" else upload(silo)  # type: ignore[method-assign]
    federation.run(until=lambda: federation.kinds().count("update.accepted") == 3)
    federation.run(deadline=False)
    due = federation.enclave.next_due()
    assert due is not None
    federation.now = due
    with pytest.raises(RefusedError) as refused:
        federation.enclave.complete("silo-3", federation.silos["silo-3"].machine.state.open_pending())
    assert refused.value.refusal.code is RefusalCode.ROUND_CLOSED
    entries = [parse_entry(data) for _, data in federation.history()]
    assert [entry.silo for entry in entries if isinstance(entry, UpdateAccepted)] == ["silo-0", "silo-1", "silo-2"]
