"""Attacks on a log's files and notes that an auditor's test-suite tries, each through `audit verify`: caught and named.

`docs/log-attacks.md` is the list; what other modules show stands there beside these.
"""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from audit_forgery import assert_diverges
from audit_history import LOG_KEY, identity
from audit_tampering import AGREEMENT, FAIL, INCOMPLETE, LONG, PASS, SHORT, audit, copy_of, named
from readers import cases

from audit.entries import RoundOpened, SiloAdmitted
from audit.log import LogWriter
from audit.merkle import EMPTY_ROOT, Tree, TreeHead, leaf_hash, node_hash
from audit.note import Checkpoint, Note, NoteSignature, VerifierKey
from audit.report import AuditReport, AuditVerdict, Line
from audit.signature_types import cosigned_message
from audit.store import MemoryStore
from audit.tiles import encode_bundle, parse_bundle
from protocol.errors import MalformedError, SignatureError

ORIGIN = AGREEMENT.log.origin
NEWEST = Checkpoint.parse(SHORT.read("log/checkpoint"))
BUNDLE = "log/tile/entries/000.p/5"
ENTRIES = parse_bundle(SHORT.read(BUNDLE), width=5)


def signed(head: TreeHead) -> bytes:
    return Checkpoint.sign(ORIGIN, head, LOG_KEY).encode()


def assert_fails(report: AuditReport, words: str, *names: str) -> None:
    """FAIL, first at one of the names, in these words; and every name is in the report."""
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert words in str(report.divergence), str(report.divergence)
    assert report.divergence.resource in names, str(report.divergence)
    assert set(names) <= named(report)


# 5 and 6: leaves


def with_bundle(entries: Iterable[bytes]) -> MemoryStore:
    store = copy_of(SHORT)
    store.write(BUNDLE, encode_bundle(list(entries)))
    return store


@pytest.mark.parametrize(
    "entries",
    [
        [*ENTRIES[:2], ENTRIES[3], ENTRIES[2], ENTRIES[4]],
        [*ENTRIES[:4], ENTRIES[3]],
        [*ENTRIES[:3], b"replaced", ENTRIES[4]],
        [ENTRIES[1], ENTRIES[0], *ENTRIES[2:]],
    ],
    ids=["reordered", "repeated", "replaced", "genesis second"],
)
def test_leaves_reordered_or_replaced(entries: list[bytes]) -> None:
    assert_fails(audit(with_bundle(entries)), "is not the one", BUNDLE)


def test_leaves_reordered_and_signed_for_diverge_where_they_stand() -> None:
    first, second = LONG.index(SiloAdmitted), LONG.index(SiloAdmitted, 1)

    def swap(entries: list) -> None:  # type: ignore[type-arg]
        entries[first], entries[second] = entries[second], entries[first]

    assert_diverges(LONG.with_entries(swap), second, Line.ENTRIES, "time: expected at least")


def test_a_leaf_that_spells_a_pair_of_nodes() -> None:
    """Three leaves whose last is the 64 bytes under the right node of four: signed with the root of the four."""
    hashes = [leaf_hash(entry) for entry in ENTRIES]
    pair = hashes[2] + hashes[3]
    root = Tree(hashes[:4]).head().root
    assert root == node_hash(node_hash(hashes[0], hashes[1]), node_hash(hashes[2], hashes[3]))
    store = copy_of(SHORT)
    for name in SHORT.list("log/tile/") + SHORT.list("log/checkpoints/"):
        store.delete(name)
    store.write("log/tile/entries/000.p/3", encode_bundle([*ENTRIES[:2], pair]))
    store.write("log/tile/0/000.p/3", b"".join([*hashes[:2], node_hash(hashes[2], hashes[3])]))
    for name in ("log/checkpoint", "log/checkpoints/3.note"):
        store.write(name, signed(TreeHead(size=3, root=root)))
    assert_fails(audit(store), "entry 2 is not the one", "log/tile/entries/000.p/3")


# 8 and 17: who signed


def resigned(*lines: NoteSignature) -> MemoryStore:
    """The newest checkpoint with these lines and no others."""
    store = copy_of(SHORT)
    for name in ("log/checkpoint", "log/checkpoints/5.note"):
        store.write(name, Note(text=NEWEST.note.text, signatures=lines).encode())
    return store


LOG_LINE = NEWEST.note.signatures[0]
STRANGER = NoteSignature(name="a-stranger", key_id=b"abcd", payload=bytes(64))
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([STRANGER], "expected a signature by a known key, found none"),
        ([replace(LOG_LINE, name="simulated.example/else")], "expected a signature by a known key, found none"),
        ([replace(LOG_LINE, key_id=bytes(4))], "expected a signature by a known key, found none"),
        ([replace(LOG_LINE, payload=bytes(64))], "does not verify"),
        ([replace(LOG_LINE, payload=LOG_LINE.payload + b"\x00")], "expected 64 bytes, found 65"),
        (
            [
                replace(
                    LOG_LINE,
                    payload=LOG_LINE.payload[:32]
                    + (int.from_bytes(LOG_LINE.payload[32:], "little") + ORDER).to_bytes(32, "little"),
                )
            ],
            "does not verify",
        ),
    ],
    ids=["strangers only", "id without the name", "name without the id", "false", "longer", "S beyond the order"],
)
def test_a_checkpoint_that_the_log_did_not_sign(lines: list[NoteSignature], words: str) -> None:
    assert_fails(audit(resigned(*lines)), words, "log/checkpoint", "log/checkpoints/5.note")


def test_a_line_under_the_log_s_name_and_another_id_beside_its_own() -> None:
    report = audit(resigned(LOG_LINE, replace(LOG_LINE, key_id=bytes(4))))
    assert_fails(report, "the name of one key and the id of another", "log/checkpoint", "log/checkpoints/5.note")


# 10: time


def cosignature(time: int) -> NoteSignature:
    key = identity("silo-4")
    verifier = VerifierKey.of_cosigner(f"{ORIGIN}/silo-4", key.public)
    payload = time.to_bytes(8, "big") + key.sign_unlabelled_note(cosigned_message(time, NEWEST.note.text))
    return NoteSignature(name=verifier.name, key_id=verifier.key_id, payload=payload)


@pytest.mark.parametrize("time", [0, 2**63, 2**64 - 1])
def test_a_cosignature_outside_of_time(time: int) -> None:
    report = audit(resigned(LOG_LINE, cosignature(time)))
    assert_fails(report, "expected a time from 1 to 2^63-1", "log/checkpoint", "log/checkpoints/5.note")


def test_a_cosignature_says_its_makers_time_and_no_more() -> None:
    """One from the year 2100 is a cosignature; the report shows the time, by which nothing is decided."""
    report = audit(resigned(LOG_LINE, cosignature(4_102_444_800)))
    assert report.verdict is PASS
    assert report.newest is not None
    assert [vote.time for vote in report.newest.cosignatures] == [4_102_444_800]


# 12 and 21: entries


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (b"\x00" * 65_535, "JSON"),
        (b"{" + b" " * 65_533 + b"}", "JSON"),
        (b"", "JSON"),
        (b'{"kind":"log.closed","kind":"log.closed"}', "unique keys"),
        (b'{"kind":"log.closed","time":1.0}', "floating-point"),
        (b'{"kind":"log.closed","time":1e400}', "floating-point"),
        (b'{"kind":"log.closed","time":NaN}', "floating-point"),
        (b'{"kind":"log.closed","time":9007199254740992}', "integers within"),
        (b'{"kind":"log.closed","time":' + b"9" * 5000 + b"}", "integers within"),
        (b'{"kind":' + b"[" * 5000 + b"]" * 5000 + b"}", "JSON"),
        (b'{"kind":' + b"[" * 40 + b"]" * 40 + b"}", "levels"),
        (b'{ "kind":"log.closed"}', "canonical form"),
        (b'{"time":1,"kind":"log.closed"}', "canonical form"),
        (b'{"kind":"log.\\u0063losed"}', "canonical form"),
        (b'{"kind":"log.closed"}\n', "canonical form"),
        (b'\xef\xbb\xbf{"kind":"log.closed"}', "JSON"),
        (b'{"kind":"\xff"}', "JSON"),
        (b'{"kind":"\\ud800"}', "JSON"),
        (b"[]", "expected an object"),
        (b"null", "expected an object"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_a_leaf_that_is_no_canonical_json(leaf: bytes, words: str) -> None:
    """Signed for by the log's own key, in the place of an entry."""
    index = LONG.index(RoundOpened)
    history = LONG.until(index + 1).with_entries(lambda entries: entries.__setitem__(index, leaf))
    assert_diverges(history, index, Line.ENTRIES, words)


def test_an_entry_too_long_for_a_bundle_cannot_be_logged_or_spelled() -> None:
    """65,536 bytes: the length field has no such number, and the writer refuses."""
    writer = LogWriter.open(copy_of(SHORT), ORIGIN, LOG_KEY)
    with pytest.raises(ValueError, match="65535"):
        writer.append([bytes(65_536)])
    store = copy_of(SHORT)
    store.write(BUNDLE, b"\x00\x00" + bytes(65_536))
    assert_fails(audit(store), BUNDLE, BUNDLE)


# 14 to 16, and 13: notes in another spelling, in the place of the newest


NOTES = {name: note for name, note in cases.notes().items() if cases.ours("note", note) is not None}
EVERYDAY = [
    "CRLF, unsigned",
    "size with a leading zero, unsigned",
    "size with a plus, signed",
    "size in Arabic-Indic digits, unsigned",
    "size 2^63, signed",
    "root with unused bits set, signed",
    "no final newline",
    "trailing data",
    "an empty extension line, signed",
    "a horizontal bar for the dash",
    "a no-break space in a stranger's name",
    "bad UTF-8 in a stranger's name",
    "a tab in the text, signed",
    "a blank line in the text, signed",
    "an origin in another normal form, signed",
    "the log's line twice",
    "a silo's line twice, at two times",
    "101 signatures",
    "empty tree with another root",
    "another log's checkpoint under the same key",
]


def verifies_as_a_note(note: bytes) -> bool:
    """Refused for its quorum alone, which is no fault of a checkpoint in the store."""
    try:
        checkpoint = Checkpoint.parse(note)
        checkpoint.verify(cases.LOG)
        cases.QUORUM.count(checkpoint, cases.LOG)
    except (MalformedError, SignatureError):
        return False
    return True


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in EVERYDAY else pytest.mark.slow)
        for name, note in NOTES.items()
        if not verifies_as_a_note(note)
    ],
)
def test_a_newest_checkpoint_in_another_spelling(name: str) -> None:
    store = copy_of(cases.STORE)
    store.write("log/checkpoint", NOTES[name])
    report = audit(store)
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert report.divergence.resource == "log/checkpoint"
    assert report.divergence.line is Line.TRUST
    said = cases.ours("note", NOTES[name])
    assert said is not None
    assert said[:30] in report.divergence.problem


def test_everyday_spellings_are_among_them() -> None:
    assert set(EVERYDAY) <= set(NOTES)


# 13 and 18: sizes at both ends


def test_a_checkpoint_of_the_largest_size_ends_the_audit_soon() -> None:
    """Signed by the log: there is no such log in the store, and its tiles are missed, not counted to."""
    store = copy_of(SHORT)
    store.write("log/checkpoints/9223372036854775807.note", signed(TreeHead(size=2**63 - 1, root=bytes(32))))
    report = audit(store)
    assert report.verdict is INCOMPLETE
    assert len(report.missing) == 200
    assert "expected a tile of the tree of 9223372036854775807 entries, found none" in str(report.missing[1])


def test_the_empty_tree_and_a_false_one() -> None:
    """A checkpoint of no entries is true of every log; one with another root is none."""
    store = copy_of(SHORT)
    store.write("log/checkpoints/0.note", signed(TreeHead(size=0, root=EMPTY_ROOT)))
    assert audit(store).verdict is not AuditVerdict.FAIL
    store.write("log/checkpoints/0.note", cases.note(cases.text_of("0"), silos=()))
    assert_fails(audit(store), "SHA-256 of nothing", "log/checkpoints/0.note")


def test_a_log_cut_down_to_nothing_fails_a_kept_checkpoint() -> None:
    store = MemoryStore()
    empty = signed(TreeHead(size=0, root=EMPTY_ROOT))
    for name in ("log/checkpoint", "log/checkpoints/0.note"):
        store.write(name, empty)
    assert audit(store, ours=NEWEST).verdict is not PASS
