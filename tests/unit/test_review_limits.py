"""An agreement that parses can be carried out: what its size leads to fits the formats that it goes into."""

import pytest
from agreement_examples import good_agreement
from memory_federation import signing_key

from appliance.enclave.votes import Votes
from audit.agreed import cosigner_of, log_key_of, quorum_of
from audit.entries import ENTRY_LIMIT_BYTES, CohortMember, RoundPublished
from audit.merkle import TreeHead
from audit.note import MAXIMUM_SIGNATURES, Checkpoint, NoteSignature
from protocol.agreement import MAXIMUM_SILOS, Agreement, AgreementError
from protocol.agreement_terms import MAXIMUM_COSIGNERS
from protocol.keys import SigningKey


def parsed(text: str) -> Agreement:
    return Agreement.parse(text.encode(), "federation.toml")


def test_the_largest_cohort_fits_an_entry() -> None:
    """One byte too many and the enclave ends, at each round's end, after every start again."""
    member = CohortMember(silo="s" * 63, upload_id=bytes(16), update=bytes(32), weight=1.2345678901234567e-30)
    published = RoundPublished(
        time=2**53 - 1,
        round=2**53 - 1,
        attempt=2**53 - 1,
        model_in=bytes(32),
        model_out=bytes(32),
        control_in=bytes(32),
        control_out=bytes(32),
        cohort=(member,) * MAXIMUM_SILOS,
        state=bytes(32),
    )
    assert len(published.encode()) <= ENTRY_LIMIT_BYTES


def test_more_silos_than_an_entry_holds_are_refused() -> None:
    owners = tuple(f"owner-{number}" for number in range(MAXIMUM_SILOS + 1))
    with pytest.raises(AgreementError, match=f"at most {MAXIMUM_SILOS}|1 to {MAXIMUM_SILOS}"):
        parsed(good_agreement(owners=owners, silo_tee="none", cosigners=99))


def test_a_quorum_fits_a_note_beside_the_logs_own_signature() -> None:
    assert MAXIMUM_COSIGNERS + 1 == MAXIMUM_SIGNATURES
    owners = tuple(f"owner-{number}" for number in range(150))
    assert parsed(good_agreement(owners=owners, silo_tee="none", cosigners=99)).log.cosigners == 99
    with pytest.raises(AgreementError, match=r"\[log\] cosigners: expected an integer from 1 to 99, found 100"):
        parsed(good_agreement(owners=owners, silo_tee="none", cosigners=100))


def with_origin(length: int) -> str:
    return good_agreement().replace("simulated.strongroom.example/digits", "simulated.".ljust(length, "x"))


def test_the_longest_origin_leaves_room_for_a_cosigners_name() -> None:
    agreement = parsed(with_origin(191).replace("silo-3", "s" * 63))
    assert len(cosigner_of(agreement, agreement.silos[3]).name) == 255
    with pytest.raises(AgreementError, match=r"\[log\] origin: expected an origin of 1 to 191"):
        parsed(with_origin(192))


def test_an_owner_of_many_silos_does_not_fill_the_note() -> None:
    """All of them cosign before anybody else does."""
    owners = ("many",) * 120 + ("one", "two", "three")
    text = good_agreement(owners=owners, silo_tee="none", cosigners=3)
    for silo in parsed(text).silos:
        text = text.replace(str(silo.identity), str(signing_key(silo.name).public))
    agreement = parsed(text)
    log = SigningKey(b"l" * 32)
    checkpoint = Checkpoint.sign(agreement.log.origin, TreeHead(size=1, root=bytes(32)), log)
    votes = Votes(agreement=agreement, note=checkpoint.encode().decode())
    for silo in agreement.silos[:122]:
        line = checkpoint.cosign(cosigner_of(agreement, silo).name, signing_key(silo.name), time=1).encode()
        votes.add(silo.name, line)
    assert votes.reached
    note = checkpoint.with_signatures([NoteSignature.parse(line) for line in votes.lines])
    assert len(quorum_of(agreement).verify(note, log_key_of(agreement, log.public)).owners) == 3
