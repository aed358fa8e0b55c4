"""Logs whose key was rotated, honest and forged, through `audit verify`: each cheat is named where it was done."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from audit_history import LOG_KEY, OTHER_CODE, Boot, Recorder, Told, log_key, token, told
from audit_tampering import FAIL, INCOMPLETE, PASS, audit, copy_of, named
from rotated_history import AGREEMENT, HONEST, SECOND, rotate

from audit.entries import ApplianceStarted, KeyRotated, RoundOpened
from audit.log import LogReader
from audit.merkle import Tree, leaf_hash
from audit.note import Checkpoint, NoteSignature, VerifierKey
from audit.recovery import row_of
from audit.report import AuditReport, Line
from audit.resources import tile_name
from audit.store import MemoryStore
from audit.tiles import encode_bundle, entry_bundles, hash_tiles
from protocol import canonical
from protocol.keys import SigningKey

WITHOUT = "a rotation without the old key's signature"
STORE = HONEST.store()
FIRST_CHANGE = HONEST.index(KeyRotated)
SECOND_CHANGE = HONEST.index(KeyRotated, 1)
FIRST_ABOVE = SECOND_CHANGE  # One batch ends where the next begins.
SECOND_ABOVE = SECOND_CHANGE + 2
NEWEST = len(HONEST.entries)


def note_at(size: int, store: MemoryStore = STORE) -> Checkpoint:
    return Checkpoint.parse(store.read(f"log/checkpoints/{size}.note"))


def line_of(checkpoint: Checkpoint, signer: SigningKey) -> NoteSignature:
    return Checkpoint.sign(checkpoint.origin, checkpoint.head, signer).note.signatures[0]


def with_lines(size: int, change: Callable[[list[NoteSignature]], list[NoteSignature]]) -> MemoryStore:
    """A store in which the checkpoint of a size, in both of its places, has other signature lines."""
    store, checkpoint = copy_of(STORE), note_at(size)
    lines = tuple(change(list(checkpoint.note.signatures)))
    changed = replace(checkpoint, note=replace(checkpoint.note, signatures=lines)).encode()
    store.write(f"log/checkpoints/{size}.note", changed)
    if size == NEWEST:
        store.write("log/checkpoint", changed)
    return store


def by(signer: SigningKey) -> Callable[[NoteSignature], bool]:
    key = VerifierKey.of_log(AGREEMENT.log.origin, signer.public)
    return lambda line: line.signer == (key.name, key.key_id)


def without(size: int, signer: SigningKey) -> MemoryStore:
    return with_lines(size, lambda lines: [line for line in lines if not by(signer)(line)])


def diverged(report: AuditReport, index: int, line: Line, words: str) -> None:
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert (report.divergence.entry, report.divergence.line) == (index, line), report.divergence
    assert words in report.divergence.problem


class TestHonest:
    def test_it_passes_and_says_who_handed_over_to_whom(self) -> None:
        report = audit(STORE)
        assert report.verdict is PASS, report.divergence or report.missing
        first, second, third = (log_key(name).public for name in ("log", "log 2", "log 3"))
        assert [line for line in report.information if "key.rotated" in line] == [
            f"entry {FIRST_CHANGE} (key.rotated): the log's key {first} handed over to {second}",
            f"entry {SECOND_CHANGE} (key.rotated): the log's key {second} handed over to {third}",
        ]

    def test_both_keys_have_signed_the_first_checkpoint_above_and_no_other(self) -> None:
        for name, above in (("log", FIRST_ABOVE), ("log 2", SECOND_ABOVE)):
            signed = [
                size for size in range(1, NEWEST + 1) if _exists(size) and any(map(by(log_key(name)), _lines(size)))
            ]
            assert signed[-1] == above
        assert [by(log_key("log 3"))(line) for line in _lines(SECOND_ABOVE)] == [False, True]

    @pytest.mark.parametrize("size", [FIRST_CHANGE, FIRST_ABOVE, SECOND_ABOVE, NEWEST])
    def test_a_kept_checkpoint_from_before_or_after(self, size: int) -> None:
        assert audit(STORE, ours=note_at(size)).verdict is PASS

    def test_a_kept_checkpoint_of_the_first_key_on_another_history(self) -> None:
        other = Checkpoint.sign(AGREEMENT.log.origin, replace(note_at(FIRST_CHANGE).head, root=bytes(32)), LOG_KEY)
        report = audit(STORE, ours=other)
        assert report.verdict is FAIL
        assert named(report) == {"ours"}

    def test_a_crash_between_the_two_copies_of_the_handover(self) -> None:
        store = HONEST.until(SECOND_ABOVE).store()
        store.write("log/checkpoint", store.read(f"log/checkpoints/{FIRST_ABOVE}.note"))
        report = audit(store)
        assert report.verdict is PASS, report.divergence or report.missing
        assert any("one batch behind" in line for line in report.information)

    def test_a_store_that_was_set_back_to_before_the_rotation(self) -> None:
        report = audit(HONEST.until(FIRST_CHANGE).store(), ours=note_at(NEWEST))
        assert report.verdict is FAIL
        assert named(report) == {"ours"}


class TestSignatures:
    def test_a_rotation_without_the_old_keys_signature(self) -> None:
        diverged(audit(without(FIRST_ABOVE, LOG_KEY)), FIRST_CHANGE, Line.TRUST, WITHOUT)

    def test_nor_with_one_that_does_not_verify(self) -> None:
        def spoil(lines: list[NoteSignature]) -> list[NoteSignature]:
            return [replace(line, payload=bytes(64)) if by(LOG_KEY)(line) else line for line in lines]

        diverged(audit(with_lines(FIRST_ABOVE, spoil)), FIRST_CHANGE, Line.TRUST, WITHOUT)

    def test_nor_with_one_on_a_later_checkpoint(self) -> None:
        store = without(FIRST_ABOVE, LOG_KEY)
        name = f"log/checkpoints/{SECOND_ABOVE}.note"
        later = note_at(SECOND_ABOVE)
        store.write(name, later.with_signatures([line_of(later, LOG_KEY)]).encode())
        report = audit(store)
        diverged(report, FIRST_CHANGE, Line.TRUST, WITHOUT)
        problem = f"{name}: also signed with a key that was retired at entry {FIRST_CHANGE}"
        assert problem in [str(finding) for finding in report.damage]

    def test_a_rotation_without_the_new_keys_signature(self) -> None:
        report = audit(without(FIRST_ABOVE, log_key("log 2")))
        diverged(report, FIRST_CHANGE, Line.TRUST, WITHOUT)
        name = f"log/checkpoints/{FIRST_ABOVE}.note"
        assert f"signed with a key that was retired at entry {FIRST_CHANGE}" in str(report.damage[0])
        assert report.damage[0].resource == name

    @pytest.mark.parametrize("size", [NEWEST - 3, NEWEST])
    def test_a_checkpoint_signed_with_a_retired_key(self, size: int) -> None:
        report = audit(with_lines(size, lambda _: [line_of(note_at(size), LOG_KEY)]))
        assert report.verdict is FAIL
        assert f"signed with a key that was retired at entry {FIRST_CHANGE}" in str(report.damage[0])

    def test_or_with_it_and_the_present_one(self) -> None:
        report = audit(with_lines(NEWEST, lambda lines: [*lines, line_of(note_at(NEWEST), log_key("log 2"))]))
        assert report.verdict is FAIL
        assert {f"also signed with a key that was retired at entry {SECOND_CHANGE}"} == {
            finding.problem for finding in report.damage
        }

    def test_a_checkpoint_from_before_signed_with_a_later_key(self) -> None:
        size = FIRST_CHANGE
        report = audit(with_lines(size, lambda _: [line_of(note_at(size), log_key("log 2"))]))
        assert report.verdict is FAIL
        assert named(report) == {f"log/checkpoints/{size}.note"}


class TestEntries:
    @pytest.mark.parametrize(
        ("changes", "line", "words"),
        [
            ({"previous": token("another")}, Line.ENTRIES, "previous log key: expected"),
            ({"agreement": token("another")}, Line.ENTRIES, "agreement: expected"),
            ({"boot_id": Boot("A").boot_id}, Line.ENTRIES, "boot id: expected a new one"),
            ({"boot_id": token("another")}, Line.EVIDENCE, "evidence: expected"),
        ],
    )
    def test_a_field_that_lies(self, changes: dict[str, object], line: Line, words: str) -> None:
        diverged(audit(HONEST.with_fields(FIRST_CHANGE, **changes).store()), FIRST_CHANGE, line, words)

    def test_a_retired_key_that_comes_back(self) -> None:
        """By a rotation that is signed and attested as it should be: the key was in force before."""
        recorder = Recorder(AGREEMENT)
        recorder.batch(recorder.genesis(), recorder.started())
        rotate(recorder, SECOND)
        honest = told(recorder)
        back = Boot("C", log="log")
        entries = (recorder.rotated(back), recorder.started())
        store = replace(honest, objects=tuple(recorder.objects.values())).store()
        _append_signed(store, entries, log_key("log 2"), LOG_KEY)
        index = len(honest.entries)
        diverged(audit(store), index, Line.ENTRIES, "log key: expected a new one, found one used before")

    def test_a_boot_under_a_retired_key(self) -> None:
        index = HONEST.index(ApplianceStarted, 1)
        keys = replace(SECOND.keys, log=LOG_KEY.public.raw)
        diverged(audit(HONEST.with_fields(index, keys=keys).store()), index, Line.ENTRIES, "log key: expected")

    def test_evidence_of_a_boot_does_for_no_rotation(self) -> None:
        recorder = Recorder(AGREEMENT)
        evidence = recorder.unattended_evidence("boot", SECOND)
        told_so = HONEST.with_fields(FIRST_CHANGE, recorder.objects[evidence], evidence=evidence)
        diverged(audit(told_so.store()), FIRST_CHANGE, Line.EVIDENCE, "evidence: expected")

    def test_evidence_of_other_code(self) -> None:
        recorder = Recorder(AGREEMENT)
        evidence = recorder.unattended_evidence("rotation", SECOND, OTHER_CODE)
        told_so = HONEST.with_fields(FIRST_CHANGE, recorder.objects[evidence], evidence=evidence)
        diverged(audit(told_so.store()), FIRST_CHANGE, Line.EVIDENCE, "evidence: expected")

    def test_evidence_that_is_missing(self) -> None:
        store = copy_of(STORE)
        entry = HONEST.entries[FIRST_CHANGE]
        assert isinstance(entry, KeyRotated)
        store.delete(f"log/objects/sha256/{entry.evidence.hex()[:2]}/{entry.evidence.hex()}")
        assert audit(store).verdict is INCOMPLETE

    def test_a_rotation_by_somebody_who_has_neither_key_nor_tee(self) -> None:
        """The operator continues a copy of the log under a key of his own, with a boot's evidence from the log."""
        stolen = SigningKey(token("the operator's"))
        recorder = Recorder(AGREEMENT)
        recorder.batch(recorder.genesis(), recorder.started())
        honest = told(recorder)
        rotated = recorder.rotated(SECOND)
        forged = replace(rotated, keys=replace(rotated.keys, log=stolen.public.raw))
        store = replace(honest, objects=tuple(recorder.objects.values())).store()
        _append_signed(store, (forged, replace(recorder.started(), keys=forged.keys)), stolen)
        diverged(audit(store), 2, Line.EVIDENCE, "evidence: expected")

    def test_not_even_with_evidence(self) -> None:
        """A genuine enclave that made itself a successor without the key before: no silo would follow it."""
        recorder = Recorder(AGREEMENT)
        recorder.batch(recorder.genesis(), recorder.started())
        honest = told(recorder)
        entries = (recorder.rotated(SECOND), recorder.started())
        store = replace(honest, objects=tuple(recorder.objects.values())).store()
        _append_signed(store, entries, log_key("log 2"))
        diverged(audit(store), 2, Line.TRUST, WITHOUT)

    def test_a_rotation_that_this_reader_does_not_know(self) -> None:
        entry = HONEST.entries[FIRST_CHANGE]
        assert isinstance(entry, KeyRotated)
        newer = canonical.encode({"kind": "key.rotated", "version": 2, "time": entry.time})
        report = audit(HONEST.with_entries(lambda entries: entries.__setitem__(FIRST_CHANGE, newer)).store())
        assert report.verdict is INCOMPLETE
        assert any("in a way that this reader does not know" in str(finding) for finding in report.missing)

    def test_a_rotation_without_its_boot(self) -> None:
        def cut(entries: list) -> None:
            del entries[FIRST_CHANGE + 1]

        diverged(audit(_reshaped(cut).store()), FIRST_CHANGE + 1, Line.ENTRIES, "may not follow in phase rekeyed")

    def test_a_round_under_a_boot_of_before(self) -> None:
        index = HONEST.index(RoundOpened, -1)
        told_so = HONEST.with_fields(index, boot_id=Boot("A").boot_id)
        diverged(audit(told_so.store()), index, Line.ENTRIES, "boot id: expected")


class TestFiles:
    @pytest.mark.parametrize("name", sorted(name for name in STORE.list("log/") if "objects" not in name))
    def test_each_file_missing_is_never_a_pass(self, name: str) -> None:
        store = copy_of(STORE)
        store.delete(name)
        report = audit(store)
        assert report.verdict is not PASS
        if "/tile/" in name:
            assert report.verdict is INCOMPLETE, report.damage

    def test_without_the_checkpoint_that_both_have_signed(self) -> None:
        store = copy_of(STORE)
        store.delete(f"log/checkpoints/{FIRST_ABOVE}.note")
        diverged(audit(store), FIRST_CHANGE, Line.TRUST, WITHOUT)


def _exists(size: int) -> bool:
    return STORE.exists(f"log/checkpoints/{size}.note")


def _lines(size: int) -> tuple[NoteSignature, ...]:
    return note_at(size).note.signatures


def _reshaped(change: Callable[[list], None]) -> Told:
    """The batch of the first rotation with other entries; what follows stays."""
    batches = list(HONEST.batches)
    number = next(i for i, batch in enumerate(batches) if batch.successor == "log 2")
    entries = list(HONEST.entries)
    change(entries)
    count = len(batches[number].entries) - 1
    batches[number] = replace(batches[number], entries=tuple(entries[FIRST_CHANGE : FIRST_CHANGE + count]))
    return replace(HONEST, batches=tuple(batches))


def _append_signed(store: MemoryStore, entries: tuple, *signers: SigningKey) -> None:
    """Append a batch by hand, signed by whomever one likes."""
    leaves = [*LogReader(store).entries(), *(entry.encode() for entry in entries)]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    for bundle in entry_bundles(len(leaves)):
        store.write(tile_name(bundle), encode_bundle(leaves))
    for tile in hash_tiles(len(leaves)):
        store.write(tile_name(tile), row_of(tree, tile))
    signed = [Checkpoint.sign(AGREEMENT.log.origin, tree.head(), signer) for signer in signers]
    checkpoint = signed[0].with_signatures([line for each in signed for line in each.note.signatures])
    for name in (f"log/checkpoints/{len(leaves)}.note", "log/checkpoint"):
        store.write(name, checkpoint.encode())
