"""The enclave's small parts: challenges, votes, sealed state, aggregated metrics."""

import os
from hashlib import sha256
from typing import Any

import pytest
from agreement_examples import good_agreement

from appliance.enclave.attempt import Attempt, aggregate_metrics
from appliance.enclave.challenges import LIFETIME_SECONDS, Challenges
from appliance.enclave.sealed_state import BodySecret, EnclaveState, StateError, StateVault
from appliance.enclave.votes import Votes
from audit.agreed import cosigner_of, quorum_of
from audit.merkle import TreeHead
from audit.note import Checkpoint, VerifierKey
from audit.store import MemoryStore
from protocol.agreement import Agreement
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError
from protocol.keys import SEALING_SEED_BYTES, SealingKey, SigningKey

ORIGIN = "simulated.example/log"


def challenges(boot: bytes = b"b" * 32) -> Challenges:
    return Challenges(boot_id=boot, random=os.urandom)


def test_a_challenge_is_redeemed_once() -> None:
    desk = challenges()
    challenge = desk.issue("berlin", now=100)
    desk.redeem("berlin", challenge, now=100)
    with pytest.raises(RefusedError, match="not used yet, found one that was used before"):
        desk.redeem("berlin", challenge, now=101)


@pytest.mark.parametrize(
    ("silo", "now", "found"),
    [
        ("zurich", 100, "a foreign one"),
        ("berlin", 100 + LIFETIME_SECONDS, "one that expired 0 s ago"),
        ("berlin", 900, "one that expired 680 s ago"),
    ],
)
def test_a_challenge_is_for_one_silo_and_a_short_time(silo: str, now: int, found: str) -> None:
    desk = challenges()
    challenge = desk.issue("berlin", now=100)
    with pytest.raises(RefusedError, match=found) as refused:
        desk.redeem(silo, challenge, now=now)
    assert refused.value.refusal.code is RefusalCode.STALE_NONCE


@pytest.mark.parametrize("position", range(32))
def test_no_byte_of_a_challenge_can_be_changed(position: int) -> None:
    desk = challenges()
    challenge = bytearray(desk.issue("berlin", now=100))
    challenge[position] ^= 1
    with pytest.raises(RefusedError, match="a foreign one"):
        desk.redeem("berlin", bytes(challenge), now=100)


def test_another_boot_does_not_take_the_challenge() -> None:
    challenge = challenges(b"1" * 32).issue("berlin", now=100)
    with pytest.raises(RefusedError, match="a foreign one"):
        challenges(b"2" * 32).redeem("berlin", challenge, now=100)


def vault(store: MemoryStore, *, key: bytes = b"k" * 32, agreement: bytes = b"a" * 32) -> StateVault:
    return StateVault(store=store, sealing_key=key, agreement=agreement, origin=ORIGIN, random=os.urandom)


STATE = EnclaveState(
    log_seed=b"s" * 32,
    model=BodySecret(name="00000001.model", digest=b"d" * 32, content=b"c" * 32, key=b"k" * 32),
    control=None,
)


def test_a_sealed_state_comes_back_and_shows_nothing() -> None:
    store = MemoryStore()
    digest = vault(store).save(STATE)
    assert vault(store).load(digest) == STATE
    (name,) = store.list("state/")
    assert b"s" * 32 not in store.read(name)
    assert "s" * 32 not in repr(STATE)
    assert "redacted" in repr(STATE)


@pytest.mark.parametrize(("key", "agreement"), [(b"x" * 32, b"a" * 32), (b"k" * 32, b"x" * 32)])
def test_another_image_or_agreement_does_not_open_the_state(key: bytes, agreement: bytes) -> None:
    store = MemoryStore()
    digest = vault(store).save(STATE)
    with pytest.raises(StateError, match="sealed by another image, TCB, agreement or log"):
        vault(store, key=key, agreement=agreement).load(digest)


def test_a_state_that_the_log_does_not_name_is_not_taken() -> None:
    store = MemoryStore()
    old, new = vault(store).save(STATE), vault(store).save(STATE)
    store.write(f"state/{new.hex()}.sealed", store.read(f"state/{old.hex()}.sealed"))
    with pytest.raises(StateError, match="changed since the log named it"):
        vault(store).load(new)
    store.delete(f"state/{new.hex()}.sealed")
    with pytest.raises(StateError, match="the store does not hold it"):
        vault(store).load(new)


def test_states_that_nothing_needs_are_deleted() -> None:
    store = MemoryStore()
    keep, drop = vault(store).save(STATE), vault(store).save(STATE)
    vault(store).forget_all_but(frozenset({keep}))
    assert store.list("state/") == [f"state/{keep.hex()}.sealed"]
    assert drop != keep


def signing_key(name: str) -> SigningKey:
    return SigningKey(sha256(name.encode()).digest())


def agreement_of(owners: tuple[str, ...], cosigners: int | None = None, **witnesses: Any) -> Agreement:
    text = good_agreement(owners=owners, cosigners=cosigners, **witnesses)
    template = Agreement.parse(text.encode(), "federation.toml")
    for silo in template.silos:
        text = text.replace(str(silo.identity), str(signing_key(silo.name).public))
    return Agreement.parse(text.encode(), "federation.toml")


def votes_on(agreement: Agreement, root: bytes = b"r" * 32, size: int = 7) -> Votes:
    checkpoint = Checkpoint.sign(agreement.log.origin, TreeHead(size=size, root=root), signing_key("log"))
    return Votes(agreement=agreement, note=checkpoint.encode().decode())


def line(agreement: Agreement, silo: str, votes: Votes, time: int = 1000, key: SigningKey | None = None) -> str:
    name = cosigner_of(agreement, agreement.silo(silo)).name
    return Checkpoint.parse(votes.note.encode()).cosign(name, key or signing_key(silo), time=time).encode()


def test_each_owner_votes_once() -> None:
    agreement = agreement_of(("a", "a", "b", "c"), cosigners=3)
    votes = votes_on(agreement)
    for silo in ("silo-0", "silo-1", "silo-2"):
        votes.add(silo, line(agreement, silo, votes))
    assert not votes.reached, "two silos of one owner are one vote"
    votes.add("silo-3", line(agreement, "silo-3", votes))
    assert votes.reached
    assert len(votes.lines) == 3


def test_a_note_has_room_for_every_witness_however_many_owners_vote() -> None:
    owners = tuple(f"owner-{number}" for number in range(100))
    keys = {name: VerifierKey.of_cosigner(f"witness.example/{name}", signing_key(name).public) for name in ("w1", "w2")}
    witnesses = {name: str(key) for name, key in keys.items()}
    agreement = agreement_of(owners, 60, witnesses=witnesses, required_witnesses=1)
    votes = votes_on(agreement)
    for silo in agreement.silos:
        votes.add(silo.name, line(agreement, silo.name, votes))
    assert votes.owners_suffice
    assert votes.waiting_for == ("witnesses (0 of 1; not yet: w1, w2)",)
    assert not votes.reached
    checkpoint = Checkpoint.parse(votes.note.encode())
    for name in ("w2", "w1"):
        votes.add_witness(name, checkpoint.cosign(f"witness.example/{name}", signing_key(name), time=2**62).encode())
    assert votes.reached
    assert len(votes.lines) == 99
    tally = quorum_of(agreement).verify(Checkpoint.parse(votes.cosigned_note.encode()), log_key_of_votes(agreement))
    assert [vote.owner for vote in tally.witnesses] == ["w1", "w2"]
    assert votes.time == 1000, "no witness pushes the clock"


def log_key_of_votes(agreement: Agreement) -> VerifierKey:
    return VerifierKey.of_log(agreement.log.origin, signing_key("log").public)


def test_a_vote_is_for_one_checkpoint_by_one_key() -> None:
    agreement = agreement_of(("a", "b", "c"))
    votes = votes_on(agreement)
    other = votes_on(agreement, root=b"o" * 32)
    with pytest.raises(SignatureError):
        votes.add("silo-0", line(agreement, "silo-0", other))
    with pytest.raises(SignatureError):
        votes.add("silo-0", line(agreement, "silo-1", votes))
    with pytest.raises(SignatureError):
        votes.add("silo-0", line(agreement, "silo-0", votes, key=signing_key("mallory")))
    with pytest.raises(MalformedError):
        votes.add("silo-0", "— nonsense\n")
    assert not votes.lines


def test_one_liar_does_not_push_the_clock() -> None:
    agreement = agreement_of(("a", "b", "c", "d"))
    votes = votes_on(agreement)
    for silo, time in (("silo-0", 2**62), ("silo-1", 900), ("silo-2", 1000)):
        votes.add(silo, line(agreement, silo, votes, time=time))
    assert agreement.log.faulty == 1
    assert votes.time == 1000


def test_a_metric_that_some_do_not_report_is_dropped() -> None:
    members = {"a": (1.0, {"loss": 1.0, "own": 5.0}), "b": (3.0, {"loss": 2.0})}
    assert aggregate_metrics(members) == {"loss": 1.75}
    assert aggregate_metrics({}) == {}


def test_an_attempt_waits_for_whom_it_was_announced_to() -> None:
    attempt = Attempt(round=1, attempt=1, key=SealingKey(bytes(SEALING_SEED_BYTES)))
    attempt.announced |= {"a", "b"}
    attempt.refused.add("a")
    assert not attempt.is_complete()
    attempt.refused.add("b")
    assert attempt.is_complete()
    assert attempt.has_verdict("a")
    assert not attempt.has_verdict("c")
