"""What convicts a log, what convicts nobody, and that the file that says so can't be made of honest heads."""

from dataclasses import replace

import pytest
from audit_forgery import AGREEMENT, HONEST
from audit_history import (
    LOG_KEY,
    OTHER_CODE,
    PLATFORM,
    START,
    Boot,
    Told,
    agreement_of,
    identity,
    token,
)
from forked_logs import (
    OTHER_KEY,
    SIZE,
    account,
    begun_again,
    cosigned_by,
    forked,
    note_account,
    parsed,
    receipt_account,
    uncosigned,
)

from audit.accounts import Account
from audit.compare import Comparison, Relation, compare
from audit.fraud import Contradiction, Fraud, FraudProof, Leaf, Leaves, NoFraudError, Prefix
from audit.log import LogReader
from audit.merkle import TreeHead
from audit.note import Checkpoint, NoteSignature
from audit.resources import checkpoint_name, object_name, tile_name
from audit.tiles import Tile
from audit.vouching import Voucher
from protocol.errors import MalformedError
from protocol.fields import encode_base64

STORE = account(HONEST)
VOUCHERS = STORE.vouchers


def proved(compared: Comparison) -> tuple[FraudProof, Fraud]:
    """The proof that came of a comparison, read back from its file and verified as a stranger does."""
    assert compared.relation is Relation.CONTRADICTION, compared.sentence
    assert compared.proof is not None, compared.sentence
    proof = FraudProof.parse_file(compared.proof.encode_file())
    assert proof == compared.proof
    return proof, proof.verify(AGREEMENT)


def against(one: Account, other: Account, *further: Account) -> Comparison:
    return compare(one, other, AGREEMENT, further=further)


VOUCHING = Account(name="evidence", heads=(), vouchers=VOUCHERS)


def proof_of_two_roots(history: Told = HONEST) -> FraudProof:
    return proved(against(account(history), account(forked(20, history))))[0]


def proof_of_two_histories() -> FraudProof:
    return proved(against(account(HONEST), account(forked(20, HONEST.until(30)))))[0]


def refused(proof: FraudProof) -> str:
    with pytest.raises(NoFraudError) as caught:
        proof.verify(AGREEMENT)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What convicts


def test_two_roots_of_one_size() -> None:
    _, fraud = proved(against(account(HONEST), account(forked(20))))
    assert fraud.contradiction is Contradiction.ROOTS
    assert fraud.sizes == (SIZE, SIZE)
    assert fraud.roots[0] != fraud.roots[1]
    assert fraud.keys == (LOG_KEY.public,)
    assert fraud.identified
    assert "two roots of its first 34 entries" in fraud.sentence


def test_two_notes_are_enough_if_somebody_vouches_for_the_key() -> None:
    one, other = note_account(HONEST, SIZE), note_account(forked(20), SIZE)
    assert against(one, other).relation is Relation.UNKNOWN
    _, fraud = proved(against(one, other, VOUCHING))
    assert fraud.contradiction is Contradiction.ROOTS


def test_two_notes_of_different_sizes_and_anybodys_store_with_the_larger_history() -> None:
    one, other = note_account(forked(20), 28), note_account(HONEST, 33 - 2)
    assert against(one, other, VOUCHING).relation is Relation.UNKNOWN
    _, fraud = proved(against(one, other, STORE))
    assert (fraud.contradiction, fraud.sizes) == (Contradiction.HISTORY, (28, 31))


@pytest.mark.parametrize("size", [19, 27, 31])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_histories_of_different_sizes(size: int, swapped: bool) -> None:
    at = size - 2
    sides = (account(forked(at, HONEST.until(size))), account(HONEST))
    _, fraud = proved(against(*(reversed(sides) if swapped else sides)))
    assert fraud.contradiction is Contradiction.HISTORY
    smaller = LogReader(HONEST.until(size).store()).size
    assert fraud.sizes == (smaller, SIZE)


def test_every_size_of_a_fork_is_convicted_by_the_larger_store_alone() -> None:
    """Among them powers of two, where a consistency proof leaves out the hash that convicts."""
    other = forked(2)
    reader = LogReader(other.store())
    sizes = [size for size in reader.checkpoint_sizes() if 2 < size < SIZE]
    assert 8 in sizes
    assert 16 in sizes
    for size in (*sizes[::9], 8, 16):
        _, fraud = proved(against(note_account(other, size), account(HONEST)))
        assert fraud.sizes == (size, SIZE)


def test_two_receipts_for_one_index() -> None:
    index = 24
    one = receipt_account(HONEST, index, 33 - 2)
    other = receipt_account(forked(20), index, SIZE)
    proof, fraud = proved(against(one, other, VOUCHING))
    assert fraud.contradiction is Contradiction.ENTRY
    assert fraud.index == index
    assert proof.prefix is None


def test_a_receipt_of_a_larger_head_against_a_smaller_store() -> None:
    smaller = forked(20, HONEST.until(30))
    _, fraud = proved(against(receipt_account(HONEST, 24, SIZE), account(smaller)))
    assert fraud.contradiction is Contradiction.ENTRY


def test_two_geneses_that_more_owners_have_cosigned_than_may_be_faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """`faulty` is 1 here, and the quorum 3: two owners on each side will do, and one of them on either will not."""
    first, alone = account(cosigned_by(("silo-0", "silo-2"))), account(cosigned_by(("silo-0", "silo-1")))
    second = account(cosigned_by(("silo-3", "silo-4"), begun_again(monkeypatch)))
    assert against(alone, second).proof is None  # Two silos of one owner.
    _, fraud = proved(against(first, second))
    assert fraud.contradiction is Contradiction.GENESIS
    assert set(fraud.keys) == {LOG_KEY.public, OTHER_KEY.public}
    assert fraud.identified


# What convicts nobody


def test_an_older_head_is_no_contradiction() -> None:
    """A rollback: whoever holds the newer head knows, and the two heads go together all the same."""
    compared = against(account(HONEST.until(30)), account(HONEST))
    assert compared.relation is Relation.CONSISTENT
    assert compared.sentence.endswith("by 4 entries, proved")
    proof = proof_of_two_histories()
    older = LogReader(HONEST.until(30).store())
    honest = replace(
        proof,
        first=older.newest().encode().decode(),
        prefix=Prefix(hashes=LogReader(HONEST.store()).consistency(older.size)),
    )
    assert "an older head is no contradiction" in refused(honest)
    assert "an older head is no contradiction by itself" in refused(replace(honest, prefix=None))


def test_a_second_log_that_no_silo_has_cosigned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreed code runs on anybody's machine, who can so begin a log: it says nothing about the federation's."""
    first = account(HONEST)
    compared = against(first, account(uncosigned(begun_again(monkeypatch))))
    assert compared.relation is Relation.CONTRADICTION
    assert compared.proof is None
    assert "this convicts nobody: two log keys" in compared.sentence
    assert "expected each head to be cosigned by 2 owners" in compared.sentence


def test_heads_of_two_keys_convict_only_with_a_quorum_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a recovery the former key's last heads, which no quorum knew, are rightly not continued."""
    first = note_account(HONEST, 31)
    compared = against(first, account(begun_again(monkeypatch)), VOUCHING)
    assert (compared.relation, compared.proof) == (Relation.CONTRADICTION, None)
    assert "expected each head to be cosigned by 3 owners" in compared.sentence


def test_a_fork_of_a_log_that_no_silo_has_seen_is_nobodys_fraud() -> None:
    """Anybody may run the agreed code and fork a log of his own; whoever knows the key can say that it is the one."""
    history = uncosigned()
    compared = against(account(history), account(forked(20, history)))
    proof, fraud = proved(compared)
    assert not fraud.identified
    assert fraud.owners == ()
    assert proof.verify(AGREEMENT, log_key=LOG_KEY.public).identified
    with pytest.raises(NoFraudError, match="expected the log of the key"):
        proof.verify(AGREEMENT, log_key=OTHER_KEY.public)


def test_a_head_cosigned_elsewhere_shows_whose_log_it_is() -> None:
    newest = note_account(uncosigned(), SIZE)
    proof, fraud = proved(against(newest, account(uncosigned(forked(20)))))
    assert not fraud.identified
    cosigned = LogReader(HONEST.store()).checkpoint_at(SIZE)
    again = replace(proof, known=cosigned.encode().decode())
    assert again.verify(AGREEMENT).identified
    # Not if it is a head of another log.
    other = Checkpoint.sign(AGREEMENT.log.origin, cosigned.head, OTHER_KEY)
    lines = [
        other.cosign(f"{AGREEMENT.log.origin}/{silo}", identity(silo), time=START) for silo in ("silo-0", "silo-2")
    ]
    assert "found none" in refused(replace(proof, known=other.with_signatures(lines).encode().decode()))


def test_another_agreement_than_the_readers() -> None:
    other = agreement_of(lambda text: text.replace("rounds = 2", "rounds = 3"))
    with pytest.raises(NoFraudError, match="expected agreement sha256:.*, as in your file, found one about sha256:"):
        proof_of_two_roots().verify(other)


def test_an_agreement_that_is_none() -> None:
    assert "the file's agreement" in refused(replace(proof_of_two_roots(), agreement=b"rounds = 1"))


def voucher(platform: object = PLATFORM, purpose: str = "genesis", **changes: object) -> Voucher:
    boot = Boot("A")
    report_data = boot.keys.unattended_report_data(
        purpose="genesis", origin=AGREEMENT.log.origin, agreement=AGREEMENT.digest, boot_id=boot.boot_id
    )
    made = Voucher(
        purpose=purpose,
        boot_id=boot.boot_id,
        keys=boot.keys,
        nonce=None,
        time=START,
        evidence=platform.evidence(report_data).encode(),  # type: ignore[attr-defined]
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (voucher(OTHER_CODE), "evidence-refused"),
        (voucher(purpose="boot"), "evidence"),
        (voucher(purpose="enrolment"), "found enrolment"),
        (voucher(nonce=bytes(32)), "expected evidence for a genesis, boot or enrolment"),
        (voucher(nonce=bytes(32), purpose="enrolment"), "evidence"),
        (voucher(boot_id=bytes(32)), "evidence"),
        (voucher(evidence=b"{}"), "evidence-malformed"),
        (voucher(time=2**50), "expected a time of at most"),
        (replace(voucher(), keys=replace(Boot("A").keys, log=OTHER_KEY.public.raw)), "evidence"),
    ],
)
def test_evidence_that_does_not_vouch_for_the_key(changed: Voucher, words: str) -> None:
    assert words in refused(replace(proof_of_two_roots(), vouchers=(changed,)))


def test_no_evidence_too_much_of_it_and_the_same_twice() -> None:
    proof = proof_of_two_roots()
    assert "found 0" in refused(replace(proof, vouchers=()))
    assert "found 3" in refused(replace(proof, vouchers=(voucher(),) * 3))
    assert "found it twice" in refused(replace(proof, vouchers=(voucher(), voucher())))


def test_a_head_signed_by_somebody_else_or_nobody() -> None:
    proof = proof_of_two_roots()
    head = TreeHead(size=SIZE, root=token("any root"))
    stranger = Checkpoint.sign(AGREEMENT.log.origin, head, OTHER_KEY).encode().decode()
    assert "found none" in refused(replace(proof, second=stranger))
    text = parsed(proof.second).note.text.decode()
    line = NoteSignature(name="elsewhere", key_id=bytes(4), payload=bytes(64)).encode()
    assert "found none" in refused(replace(proof, second=f"{text}\n{line}"))
    assert "found one by elsewhere" in refused(replace(proof, second=proof.second + line))
    other_log = Checkpoint.sign("elsewhere.example/log", head, LOG_KEY).encode().decode()
    assert "found one of 'elsewhere.example/log'" in refused(replace(proof, second=other_log))


def test_a_cosignature_that_does_not_verify() -> None:
    proof = proof_of_two_roots()
    checkpoint = parsed(proof.first)
    of_the_other = [
        line for line in parsed(proof.second).note.signatures if "/" in line.name.removeprefix(checkpoint.origin)
    ]
    own = [line for line in checkpoint.note.signatures if line.name == checkpoint.origin]
    bare = replace(checkpoint, note=replace(checkpoint.note, signatures=tuple(own)))
    assert "does not verify" in refused(replace(proof, first=bare.with_signatures(of_the_other).encode().decode()))


def test_hashes_that_lead_elsewhere() -> None:
    proof = proof_of_two_histories()
    assert proof.prefix is not None
    hashes = proof.prefix.hashes
    for changed in (hashes[1:], hashes[:-1], (*hashes, bytes(32)), (bytes(32), *hashes[1:]), hashes[::-1], ()):
        assert "expected" in refused(replace(proof, prefix=Prefix(hashes=changed)))


def test_the_same_head_twice_the_larger_first_and_two_contradictions_at_once() -> None:
    roots, histories = proof_of_two_roots(), proof_of_two_histories()
    assert "expected two roots of 34 entries, found one" in refused(replace(roots, second=roots.first))
    assert "expected the smaller head first" in refused(
        replace(histories, first=histories.second, second=histories.first)
    )
    leaf = Leaf(entry=b"", hashes=())
    both = replace(histories, leaves=Leaves(index=0, first=leaf, second=replace(leaf, entry=b"x")))
    assert "expected one contradiction, found two" in refused(both)


def test_entries_that_are_the_same_or_not_under_their_heads() -> None:
    proof, _ = proved(against(receipt_account(HONEST, 24, SIZE), receipt_account(forked(20), 24, SIZE), VOUCHING))
    reader, other = LogReader(HONEST.store()), LogReader(forked(20).store())
    first, second = (Leaf(entry=log.entry(24), hashes=log.inclusion(24)) for log in (reader, other))
    entries = replace(proof, leaves=Leaves(index=24, first=first, second=second))
    assert entries.verify(AGREEMENT).contradiction is Contradiction.ENTRY
    leaves = entries.leaves
    assert leaves is not None
    assert "the same one twice" in refused(replace(entries, leaves=replace(leaves, second=first)))
    assert "inclusion" in refused(replace(entries, leaves=replace(leaves, index=25)))
    assert "inclusion" in refused(replace(entries, leaves=replace(leaves, index=SIZE)))
    assert "inclusion" in refused(replace(entries, leaves=replace(leaves, first=replace(first, entry=b"{}"))))


# Whatever can't be told is said not to have been told


def test_a_store_that_is_damaged_where_the_proof_would_come_from() -> None:
    store = HONEST.store()
    name = tile_name(Tile(level=0, index=0, width=SIZE))
    store.write(name, bytes(32 * SIZE))
    compared = against(note_account(HONEST.until(30), 28), account(store))
    assert compared.relation is Relation.UNKNOWN
    assert "to tell needs the log of 34 entries" in compared.sentence


def test_two_heads_without_a_tree() -> None:
    compared = against(note_account(HONEST, 28), note_account(forked(20), SIZE), VOUCHING)
    assert compared.relation is Relation.UNKNOWN
    assert "which is no contradiction by itself" in compared.sentence


def test_a_store_without_its_evidence() -> None:
    store = HONEST.store()
    evidence = HONEST.entries[0].evidence  # type: ignore[union-attr]
    store.delete(object_name(evidence))
    compared = against(account(store), note_account(HONEST, 28))
    assert compared.relation is Relation.UNKNOWN
    assert "nothing vouches for a log key" in compared.sentence
    assert object_name(evidence) in compared.sentence


def test_heads_that_the_log_did_not_sign_count_for_nothing() -> None:
    """A planted checkpoint neither makes a contradiction nor hides one."""
    planted = Checkpoint.sign(AGREEMENT.log.origin, TreeHead(size=99, root=token("x")), OTHER_KEY)
    store = forked(20).store()
    store.write(checkpoint_name(99), planted.encode())
    _, fraud = proved(against(account(HONEST), account(store)))
    assert fraud.sizes == (SIZE, SIZE)
    honest = HONEST.store()
    honest.write("log/checkpoint", planted.encode())
    assert against(account(honest), account(HONEST)).relation is Relation.CONSISTENT
    only = against(Account.of_note("note", planted.encode()), account(HONEST))
    assert only.relation is Relation.UNKNOWN
    assert "found none" in only.sentence


def test_an_entry_that_its_receipt_is_not_for() -> None:
    reader = LogReader(HONEST.store())
    wrong = Account.of_receipts("mine", ((reader.receipt(24), reader.entry(25)),))
    compared = against(wrong, account(HONEST))
    assert compared.relation is Relation.UNKNOWN
    assert compared.sentence.startswith("mine: the entry is not the one that its receipt is for")


def test_a_receipt_and_a_note_of_an_honest_log_go_together() -> None:
    assert against(receipt_account(HONEST, 3, 31), account(HONEST)).relation is Relation.CONSISTENT
    assert against(note_account(HONEST, SIZE), note_account(HONEST, SIZE), VOUCHING).relation is Relation.CONSISTENT


def test_a_log_whose_newest_heads_are_by_a_later_key_is_vouched_for_by_its_boots() -> None:
    """A boot's evidence commits to the log key of its time, so that a log that changed its key needs no more."""
    boot = Boot("B")
    keys = replace(boot.keys, log=OTHER_KEY.public.raw)
    started = HONEST.index(type(HONEST.entries[1]), 1)
    report_data = keys.unattended_report_data(
        purpose="boot", origin=AGREEMENT.log.origin, agreement=AGREEMENT.digest, boot_id=boot.boot_id
    )
    evidence = PLATFORM.evidence(report_data).encode()
    history = HONEST.with_fields(started, evidence, keys=keys, evidence=token_of(evidence))
    store = history.store()
    newest = LogReader(store).newest()
    later = Checkpoint.sign(newest.origin, newest.head, OTHER_KEY)
    for name in ("log/checkpoint", checkpoint_name(SIZE)):
        store.write(name, later.encode())
    found = account(store)
    assert [item.log_key for item in found.vouchers] == [LOG_KEY.public, OTHER_KEY.public]
    fork = Account.of_note(
        "note", Checkpoint.sign(newest.origin, TreeHead(size=SIZE, root=token("y")), OTHER_KEY).encode()
    )
    proof, fraud = proved(against(found, fork))
    assert fraud.keys == (OTHER_KEY.public,)
    assert [item.purpose for item in proof.vouchers] == ["boot"]


def token_of(data: bytes) -> bytes:
    from hashlib import sha256

    return sha256(data).digest()


# The file


def test_every_changed_byte_of_a_file_makes_it_prove_nothing() -> None:
    data = proof_of_two_histories().encode_file()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises((MalformedError, NoFraudError)):
            FraudProof.parse_file(bytes(changed)).verify(AGREEMENT)


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d + b"\n", lambda d: b"\n" + d, lambda d: d[:90], lambda d: b""]
)
def test_a_longer_or_shorter_file_is_none(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MalformedError, match="fraud proof: expected"):
        FraudProof.parse_file(change(proof_of_two_roots().encode_file()))


def test_every_signed_or_hashed_byte_counts_though_the_digest_is_made_anew() -> None:
    """Both heads, and each hash: what is not bound is the time at which evidence has to hold."""
    proof = proof_of_two_histories()
    for field in ("first", "second"):
        text = getattr(proof, field)
        for position in range(0, len(text), 13):
            changed = text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]
            with pytest.raises(NoFraudError):
                replace(proof, **{field: changed}).verify(AGREEMENT)
    assert proof.prefix is not None
    for place, digest in enumerate(proof.prefix.hashes):
        for bit in range(0, 256, 37):
            other = (int.from_bytes(digest) ^ 1 << bit).to_bytes(32)
            hashes = (*proof.prefix.hashes[:place], other, *proof.prefix.hashes[place + 1 :])
            assert "prefix" in refused(replace(proof, prefix=Prefix(hashes=hashes)))
    assert encode_base64(proof.agreement) in proof.encode_file().decode()
