"""Receipts and quorums: what a silo keeps, and when it may believe it."""

from dataclasses import replace

import pytest

from audit.log import LogWriter
from audit.merkle import ProofError
from audit.note import Checkpoint, NoteSignature, VerifierKey
from audit.proof import Receipt
from audit.quorum import Cosigner, Quorum, QuorumError, Tally
from audit.store import MemoryStore
from protocol.errors import MalformedError, SignatureError
from protocol.fields import encode_base64
from protocol.keys import SigningKey

KEY = SigningKey(b"\x01" * 32)
ORIGIN = "simulated.example/log"
LOG_KEY = VerifierKey.of_log(ORIGIN, KEY.public)
SILOS = {name: SigningKey(bytes([seed]) * 32) for seed, name in enumerate("abcdef", 10)}


def silo_key(name):
    return VerifierKey.of_cosigner(f"{ORIGIN}/silo/{name}", SILOS[name].public)


def cosigner(name, owner=None):
    return Cosigner(owner=owner or f"owner-{name}", key=silo_key(name))


def cosigned(checkpoint, names, time=1000):
    return checkpoint.with_signatures(
        [checkpoint.cosign(f"{ORIGIN}/silo/{name}", SILOS[name], time=time) for name in names]
    )


@pytest.fixture
def log():
    writer = LogWriter.create(MemoryStore(), ORIGIN, KEY)
    writer.append([b"zero", b"one", b"two", b"three", b"four"])
    return writer


@pytest.fixture
def quorum():
    return Quorum(cosigners=tuple(map(cosigner, "abcd")), required=3)


def test_a_receipt_proves_its_entry(log):
    receipt = Receipt.parse(log.receipt(3).encode())
    verdict = receipt.verify(b"three", log_key=LOG_KEY, quorum=None)
    assert (verdict.origin, verdict.index, verdict.size, verdict.root) == (ORIGIN, 3, 5, log.root())
    assert verdict.votes == Tally()


def test_it_is_the_public_format(log):
    lines = log.receipt(4).encode().decode().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 4"]
    assert lines[2] == encode_base64(log.inclusion(4)[0])
    assert lines[3:5] == ["", ORIGIN]


@pytest.mark.parametrize(
    ("index", "entry"), [(3, b"four"), (4, b"three"), (0, b"three"), (5, b"three"), (2**63 - 1, b"three")]
)
def test_another_entry_or_index_is_refused(log, index, entry):
    receipt = log.receipt(3)
    with pytest.raises(ProofError):
        Receipt(index=index, proof=receipt.proof, checkpoint=receipt.checkpoint).verify(
            entry, log_key=LOG_KEY, quorum=None
        )


def test_the_size_is_the_signed_one_so_an_entry_has_one_index(log):
    # Leaf 4 of 5 is proven by the same hash as leaf 1 of 2, 2 of 3 and 8 of 9; the signature says 5.
    receipt = log.receipt(4)
    receipt.verify(b"four", log_key=LOG_KEY, quorum=None)
    for index in (1, 2, 8):
        with pytest.raises(ProofError):
            Receipt(index=index, proof=receipt.proof, checkpoint=receipt.checkpoint).verify(
                b"four", log_key=LOG_KEY, quorum=None
            )
    resized = receipt.encode().replace(b"index 4", b"index 1").replace(b"\n5\n", b"\n2\n")
    with pytest.raises(SignatureError):
        Receipt.parse(resized).verify(b"four", log_key=LOG_KEY, quorum=None)


def test_another_logs_receipt_is_refused(log):
    other = LogWriter.create(MemoryStore(), "simulated.example/other", KEY)
    other.append([b"three"])
    with pytest.raises(SignatureError, match="expected one of the log"):
        other.receipt(0).verify(b"three", log_key=LOG_KEY, quorum=None)
    with pytest.raises(SignatureError):
        log.receipt(3).verify(b"three", log_key=VerifierKey.of_log(ORIGIN, SILOS["a"].public), quorum=None)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"@v1", b"@v2"),
        lambda data: data.replace(b"\nindex 3", b"\nextra AAAA\nindex 3"),
        lambda data: data.replace(b"index 3", b"index 03"),
        lambda data: data.replace(b"index 3", b"index +3"),
        lambda data: data.replace(b"index 3", b"index 9223372036854775808"),
        lambda data: data.replace(b"index 3", "index ٣".encode()),
        lambda data: data.replace(b"index 3\n", b""),
        lambda data: data.replace(b"index 3\n", b"index 3\n\n"),
        lambda data: data.replace(b"index 3\n", b"index 3\n" + b"AAAA\n"),
        lambda data: data.replace(b"index 3\n", b"index 3\n" + encode_base64(bytes(32)).encode() * 1 + b"\r\n"),
        lambda data: data.replace(b"index 3\n", b"index 3\n" + (encode_base64(bytes(32)) + "\n").encode() * 62),
        lambda data: data.replace(b"index 3\n", b"index 3\n" + (encode_base64(bytes(32)) + "\n").encode() * 1_000_000),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.split(b"\n\n")[0],
        lambda data: b"",
    ],
)
def test_receipts_in_another_spelling_are_refused(log, change):
    data = log.receipt(3).encode()
    with pytest.raises(MalformedError):
        Receipt.parse(change(data))


def test_a_receipt_of_a_million_lines_is_refused_unread(log):
    line = encode_base64(bytes(32)).encode() + b"\n"
    head, blank, note = log.receipt(3).encode().partition(b"\n\n")
    with pytest.raises(MalformedError, match="at most 1004160 bytes"):
        Receipt.parse(head + b"\n" + line * 1_000_000 + blank + note)
    with pytest.raises(MalformedError, match="at most 63 hashes"):
        Receipt.parse(head + b"\n" + line * 10_000 + blank + note)


def test_a_quorum_of_owners_is_counted_and_named(log, quorum):
    log.add_cosignatures(5, [line.encode() for line in cosigned(log.checkpoint_at(5), "dba").note.signatures[1:]])
    verdict = log.receipt(1).verify(b"one", log_key=LOG_KEY, quorum=quorum)
    assert [vote.owner for vote in verdict.votes.owners] == ["owner-d", "owner-b", "owner-a"]
    assert {vote.time for vote in verdict.votes.owners} == {1000}


def test_too_few_owners_are_refused_and_named(log, quorum):
    checkpoint = cosigned(log.checkpoint_at(5), "ab")
    with pytest.raises(QuorumError, match="expected cosignatures of 3 owners, found owner-a, owner-b"):
        quorum.verify(checkpoint, LOG_KEY)
    with pytest.raises(QuorumError, match="found nobody"):
        log.receipt(1).verify(b"one", log_key=LOG_KEY, quorum=quorum)


def test_strangers_do_not_count(log, quorum):
    with pytest.raises(QuorumError, match="found owner-a, owner-b"):
        quorum.verify(cosigned(log.checkpoint_at(5), "abe"), LOG_KEY)


def test_two_silos_of_one_owner_have_one_vote(log):
    quorum = Quorum(cosigners=(cosigner("a", "same"), cosigner("b", "same"), cosigner("c")), required=2)
    with pytest.raises(QuorumError, match="found same"):
        quorum.verify(cosigned(log.checkpoint_at(5), "ab"), LOG_KEY)
    assert len(quorum.verify(cosigned(log.checkpoint_at(5), "abc"), LOG_KEY).owners) == 2


def test_the_log_never_counts_in_its_own_quorum(log):
    itself = Cosigner(owner="owner-log", key=VerifierKey.of_cosigner("silo.example/log", KEY.public))
    quorum = Quorum(cosigners=(itself, cosigner("a")), required=2)
    checkpoint = cosigned(log.checkpoint_at(5), "a")
    checkpoint = checkpoint.with_signatures([checkpoint.cosign("silo.example/log", KEY, time=1)])
    with pytest.raises(QuorumError, match="found owner-a"):
        quorum.verify(checkpoint, LOG_KEY)


def with_witnesses(quorum: Quorum, required: int) -> Quorum:
    witnesses = tuple(Cosigner(owner=name, key=silo_key(name)) for name in "ef")
    return replace(quorum, witnesses=witnesses, required_witnesses=required)


def test_further_witnesses_are_counted_beside_the_owners_and_in_place_of_none(log, quorum):
    checkpoint = cosigned(log.checkpoint_at(5), "abe")
    with pytest.raises(
        QuorumError, match="expected cosignatures of 3 owners, found owner-a, owner-b, witness e; missing: o"
    ):
        with_witnesses(quorum, 0).verify(checkpoint, LOG_KEY)
    demanded = with_witnesses(quorum, 1)
    with pytest.raises(QuorumError) as caught:
        demanded.verify(cosigned(log.checkpoint_at(5), "abc"), LOG_KEY)
    assert str(caught.value) == (
        "checkpoint of size 5: expected cosignatures of 3 owners and 1 of 2 witnesses, "
        "found owner-a, owner-b, owner-c; missing: witness e, witness f"
    )
    tally = demanded.verify(cosigned(log.checkpoint_at(5), "fcba"), LOG_KEY)
    assert [vote.owner for vote in tally.owners] == ["owner-c", "owner-b", "owner-a"]
    assert [vote.owner for vote in tally.witnesses] == ["f"]
    assert with_witnesses(quorum, 0).verify(cosigned(log.checkpoint_at(5), "abc"), LOG_KEY).witnesses == ()
    with pytest.raises(QuorumError, match="missing: witness f"):
        with_witnesses(quorum, 2).verify(cosigned(log.checkpoint_at(5), "abce"), LOG_KEY)


def test_a_witness_whose_line_is_false_spoils_the_checkpoint(log, quorum):
    old = log.checkpoint_at(5)
    line = old.cosign(f"{ORIGIN}/silo/e", SILOS["e"], time=1)
    new = cosigned(log.append([b"five"]), "abc").with_signatures([line])
    with pytest.raises(SignatureError):
        with_witnesses(quorum, 0).verify(new, LOG_KEY)


@pytest.mark.parametrize(
    ("witnesses", "required", "message"),
    [("ef", 3, "as many as there are witnesses"), ("ef", -1, "as many"), ("a", 1, "each public key once")],
)
def test_witnesses_that_could_never_be_enough_or_vote_twice_are_refused(quorum, witnesses, required, message):
    with pytest.raises(ValueError, match=message):
        replace(
            quorum,
            witnesses=tuple(Cosigner(owner=name, key=silo_key(name)) for name in witnesses),
            required_witnesses=required,
        )


def test_a_cosignature_of_another_checkpoint_spoils_this_one(log, quorum):
    old = log.checkpoint_at(5)
    line = old.cosign(f"{ORIGIN}/silo/a", SILOS["a"], time=1)
    new = cosigned(log.append([b"five"]), "bcd").with_signatures([line])
    with pytest.raises(SignatureError):
        quorum.verify(new, LOG_KEY)


def test_a_silos_key_under_another_silos_name_is_a_stranger(log, quorum):
    checkpoint = cosigned(log.checkpoint_at(5), "ab")
    line = checkpoint.cosign(f"{ORIGIN}/silo/c", SILOS["a"], time=1)
    assert line.key_id != silo_key("c").key_id
    with pytest.raises(QuorumError):
        quorum.verify(checkpoint.with_signatures([line]), LOG_KEY)
    forged = NoteSignature(name=line.name, key_id=silo_key("c").key_id, payload=line.payload)
    with pytest.raises(SignatureError):
        quorum.verify(checkpoint.with_signatures([forged]), LOG_KEY)


@pytest.mark.parametrize(
    ("cosigners", "required", "message"),
    [
        ("ab", 3, "as many as there are owners"),
        ("ab", 0, "as many as there are owners"),
        ("", 1, "as many as there are owners"),
        ("aa", 1, "each public key once"),
    ],
)
def test_quorums_that_could_never_be_one_are_refused(cosigners, required, message):
    with pytest.raises(ValueError, match=message):
        Quorum(cosigners=tuple(cosigner(name) for name in cosigners), required=required)


def test_one_key_under_two_names_is_refused():
    twice = Cosigner(owner="owner-z", key=VerifierKey.of_cosigner("silo.example/z", SILOS["a"].public))
    with pytest.raises(ValueError, match="each public key once"):
        Quorum(cosigners=(cosigner("a"), twice), required=2)
    with pytest.raises(ValueError, match="type 0x04"):
        Quorum(cosigners=(Cosigner(owner="log", key=LOG_KEY),), required=1)


def test_a_checkpoint_without_the_logs_signature_is_refused_however_many_cosigned(log, quorum):
    checkpoint = cosigned(log.checkpoint_at(5), "abcd")
    data = checkpoint.encode().replace(checkpoint.note.signatures[0].encode().encode(), b"")
    receipt = Receipt(index=1, proof=log.inclusion(1), checkpoint=Checkpoint.parse(data))
    with pytest.raises(SignatureError):
        receipt.verify(b"one", log_key=LOG_KEY, quorum=quorum)
