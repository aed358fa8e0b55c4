"""Which of a log's keys signs which size; how a log is written under several; and how a party follows its changes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from audit_history import LOG_KEY, Boot, Recorder, agreement_of, log_key, token

from audit.entries import Entry, LogRecovered
from audit.key_claims import claims_in
from audit.key_history import NOTHING, KeyChangeError, follow
from audit.log import LogWriter
from audit.log_keys import LogKeys, RetiredKeyError
from audit.merkle import TreeHead
from audit.note import Checkpoint, VerifierKey
from audit.resources import LogDamagedError, checkpoint_name
from audit.store import MemoryStore
from protocol import canonical
from protocol.agreement import Agreement
from protocol.errors import MalformedError, SignatureError
from protocol.key_history import KeyChange, KeyHistory
from protocol.keys import SigningKey
from protocol.session import Consistency, LoggedEntry

AGREEMENT = agreement_of()
ORIGIN = AGREEMENT.log.origin
FIRST, SECOND, THIRD = LOG_KEY, log_key("log 2"), log_key("log 3")
KEYS = (
    LogKeys.first(ORIGIN, FIRST.public)
    .followed_by(SECOND.public, since=4, handed_over=True)
    .followed_by(THIRD.public, since=9, handed_over=False)
)


def checkpoint(size: int, *signers: SigningKey) -> Checkpoint:
    head = TreeHead(size=size, root=token(f"root {size}"))
    signed = [Checkpoint.sign(ORIGIN, head, signer) for signer in signers]
    return signed[0].with_signatures([line for each in signed for line in each.note.signatures])


class TestWhichKeySigns:
    @pytest.mark.parametrize(
        ("size", "signer"), [(1, FIRST), (4, FIRST), (5, SECOND), (9, SECOND), (10, THIRD), (99, THIRD)]
    )
    def test_the_one_whose_entry_is_below_the_size(self, size: int, signer: SigningKey) -> None:
        assert KEYS.at(size) == VerifierKey.of_log(ORIGIN, signer.public)
        assert KEYS.verify(checkpoint(size, signer)) == KEYS.at(size)
        for other in {FIRST, SECOND, THIRD} - {signer}:
            with pytest.raises(SignatureError):
                KEYS.verify(checkpoint(size, other))

    @pytest.mark.parametrize(
        ("size", "signer", "retired"), [(5, FIRST, 4), (9, FIRST, 4), (10, FIRST, 4), (10, SECOND, 9)]
    )
    def test_a_retired_key_is_named_with_the_entry_that_retired_it(
        self, size: int, signer: SigningKey, retired: int
    ) -> None:
        with pytest.raises(
            RetiredKeyError, match=f"size {size}: signed with a key that was retired at entry {retired}"
        ):
            KEYS.verify(checkpoint(size, signer))

    def test_both_keys_on_a_handover_are_fine(self) -> None:
        assert KEYS.verify(checkpoint(5, FIRST, SECOND)).public == SECOND.public.raw
        assert list(KEYS.handovers) == [(4, KEYS.at(4), KEYS.at(5))]

    def test_a_false_line_by_the_right_key(self) -> None:
        good = checkpoint(5, SECOND)
        spoilt = replace(good.note.signatures[0], payload=bytes(64))
        with pytest.raises(SignatureError, match="does not verify"):
            KEYS.verify(replace(good, note=replace(good.note, signatures=(spoilt,))))

    def test_when_each_was_retired(self) -> None:
        found = [KEYS.retired_at(key.public) for key in (FIRST, SECOND, THIRD, SigningKey(token("stranger")))]
        assert found == [4, 9, None, None]

    @pytest.mark.parametrize(
        ("key", "since", "words"),
        [
            (FIRST, 12, "found one used before"),
            (THIRD, 12, "found one used before"),
            (log_key("log 4"), 9, "expected a change after entry 9, found 9"),
        ],
    )
    def test_no_key_comes_back_and_no_change_comes_late(self, key: SigningKey, since: int, words: str) -> None:
        with pytest.raises(MalformedError, match=words):
            KEYS.followed_by(key.public, since=since, handed_over=True)


class TestWriting:
    def writer(self, store: MemoryStore) -> LogWriter:
        writer = LogWriter.create(store, ORIGIN, FIRST)
        writer.append([b"0", b"1"])
        writer.append([b"2", b"3"], successor=SECOND)
        writer.append([b"4"])
        return writer

    def keys(self) -> LogKeys:
        return LogKeys.first(ORIGIN, FIRST.public).followed_by(SECOND.public, since=2, handed_over=True)

    def test_the_batch_of_a_successor_is_signed_by_both(self) -> None:
        store = MemoryStore()
        writer = self.writer(store)
        ids = {VerifierKey.of_log(ORIGIN, key.public).key_id: name for name, key in (("1", FIRST), ("2", SECOND))}
        signed = {size: [ids[line.key_id] for line in writer.checkpoint_at(size).note.signatures] for size in (2, 4, 5)}
        assert signed == {2: ["1"], 4: ["1", "2"], 5: ["2"]}
        assert writer.keys == self.keys()
        assert writer.log_key.public == SECOND.public.raw

    def test_it_opens_under_all_its_keys(self) -> None:
        store = MemoryStore()
        self.writer(store)
        writer = LogWriter.open(store, ORIGIN, SECOND, keys=self.keys())
        writer.append([b"5"])
        assert [writer.receipt(0, size).checkpoint.size for size in (2, 4, 5, 6)] == [2, 4, 5, 6]
        assert writer.first_checkpoint_above(2).size == 4

    def test_it_does_not_open_under_one_of_them_alone(self) -> None:
        store = MemoryStore()
        self.writer(store)
        for key in (FIRST, SECOND):
            if key is SECOND:
                LogWriter.open(store, ORIGIN, key)  # Its newest checkpoint verifies …
                with pytest.raises(LogDamagedError):
                    LogWriter.open(store, ORIGIN, key).checkpoint_at(2)  # … and the ones before do not.
            else:
                with pytest.raises(LogDamagedError):
                    LogWriter.open(store, ORIGIN, key)

    def test_nor_under_keys_whose_newest_is_another(self) -> None:
        store = MemoryStore()
        self.writer(store)
        with pytest.raises(ValueError, match="present key to be the newest"):
            LogWriter.open(store, ORIGIN, FIRST, keys=self.keys())

    @pytest.mark.parametrize("kept", [FIRST, SECOND])
    def test_a_handover_that_lost_a_signature_is_damage(self, kept: SigningKey) -> None:
        store = MemoryStore()
        writer = self.writer(store)
        head = writer.checkpoint_at(4).head
        store.write(checkpoint_name(4), Checkpoint.sign(ORIGIN, head, kept).encode())
        with pytest.raises(LogDamagedError, match="expected the keys before and after entry 2"):
            LogWriter.open(store, ORIGIN, SECOND, keys=self.keys())

    def test_a_log_whose_key_is_lost_goes_on_under_a_successor_alone(self) -> None:
        store = MemoryStore()
        self.writer(store)
        writer = LogWriter.open(store, ORIGIN, None, keys=self.keys())
        with pytest.raises(ValueError, match="successor of the lost log key"):
            writer.append([b"5"])
        writer.append([b"5"], successor=THIRD)
        assert [line.key_id for line in writer.checkpoint_at(6).note.signatures] == [
            VerifierKey.of_log(ORIGIN, THIRD.public).key_id
        ]
        assert not writer.keys.in_force[-1].handed_over
        LogWriter.open(store, ORIGIN, THIRD, keys=writer.keys)

    def test_a_key_that_was_used_before_is_no_successor(self) -> None:
        store = MemoryStore()
        writer = self.writer(store)
        with pytest.raises(MalformedError, match="used before"):
            writer.append([b"5"], successor=FIRST)
        writer.append([b"5"])


class Story:
    """A log with a rotation, a recovery and another rotation, and its history of keys as the appliance tells it."""

    def __init__(self) -> None:
        self.recorder = Recorder(AGREEMENT)
        self.log = LogWriter.create(MemoryStore(), ORIGIN, FIRST)
        self.changes: list[KeyChange] = []
        self.append(self.recorder.genesis(), self.recorder.started())
        self.known = self.log.checkpoint_at(2).head
        self.append(self.recorder.admitted("silo-0"))
        self.change("log 2")
        self.append(self.recorder.admitted("silo-0"))
        self.change("log 3", grants=b"grants of the silos")
        self.change("log 4")

    def append(self, *entries: Entry, successor: str | None = None) -> None:
        for entry in entries:
            self.recorder.history.apply(entry)
        key = None if successor is None else log_key(successor)
        self.log.append([entry.encode() for entry in entries], successor=key)

    def change(self, name: str, *, grants: bytes | None = None) -> None:
        recorder, boot = self.recorder, Boot(name, log=name)
        head = self.known if not self.changes else Checkpoint.parse(self.changes[-1].checkpoint.encode()).head
        index, root = self.log.size, self.log.root()
        if grants is None:
            self.append(recorder.rotated(boot), recorder.started(), successor=name)
        else:
            self.log = LogWriter.open(self.log._store, ORIGIN, None, keys=self.log.keys)
            self.append(recorder.recovered(boot, root=root, grants=grants), recorder.started(), successor=name)
        size = self.log.size
        base = None if grants is None else Consistency(size=index, hashes=self.log.consistency(index, size))
        self.changes.append(
            KeyChange(
                logged=LoggedEntry(index=index, entry=self.log.entry(index), hashes=self.log.inclusion(index)),
                checkpoint=self.log.checkpoint.decode(),
                consistency=Consistency(
                    size=head.size, hashes=self.log.consistency(head.size, size if base is None else index)
                ),
                base=base,
                grants=grants,
            )
        )

    @property
    def history(self) -> KeyHistory:
        return KeyHistory(changes=tuple(self.changes))


STORY = Story()


def grants_of_the_silos(agreement: Agreement, entry: LogRecovered, grants: bytes) -> None:
    if (agreement, grants) != (AGREEMENT, b"grants of the silos"):
        raise SignatureError("no grants of these silos")


def followed(history: KeyHistory, head: TreeHead = STORY.known) -> LogKeys:
    keys = LogKeys.first(ORIGIN, FIRST.public)
    return follow(history, agreement=AGREEMENT, keys=keys, head=head, verify_grants=grants_of_the_silos).keys


class TestFollowing:
    def test_it_leads_to_the_newest_key(self) -> None:
        keys = followed(KeyHistory.parse(STORY.history.encode()))
        assert keys == STORY.log.keys
        assert [item.handed_over for item in keys.in_force] == [False, True, False, True]

    def test_from_any_key_on_the_way(self) -> None:
        part = follow(
            KeyHistory(changes=STORY.history.changes[:1]),
            agreement=AGREEMENT,
            keys=LogKeys.first(ORIGIN, FIRST.public),
            head=STORY.known,
        )
        rest = follow(
            KeyHistory(changes=STORY.history.changes[1:]),
            agreement=AGREEMENT,
            keys=part.keys,
            head=part.checkpoint.head,
            verify_grants=grants_of_the_silos,
        )
        assert rest.keys == STORY.log.keys
        assert rest.checkpoint.size == STORY.log.size

    def test_no_recovery_unless_somebody_judges_its_grants(self) -> None:
        keys = LogKeys.first(ORIGIN, FIRST.public)
        with pytest.raises(KeyChangeError, match="which can't be judged here"):
            follow(STORY.history, agreement=AGREEMENT, keys=keys, head=STORY.known)

    @pytest.mark.parametrize(
        ("number", "change", "words"),
        [
            (0, lambda c: replace(c, grants=b"x"), "no grants beside a rotation"),
            (0, lambda c: replace(c, base=Consistency(size=0, hashes=())), "no grants beside a rotation"),
            (0, lambda c: replace(c, consistency=Consistency(size=0, hashes=())), "expected a proof from size 2"),
            (0, lambda c: replace(c, consistency=Consistency(size=2, hashes=())), "consistency: expected"),
            (0, lambda c: replace(c, logged=replace(c.logged, hashes=())), "inclusion: expected"),
            (0, lambda c: replace(c, logged=replace(c.logged, index=c.logged.index + 1)), "inclusion: expected"),
            (0, lambda c: replace(c, logged=replace(c.logged, index=0)), "after the 2 entries that are known"),
            (0, lambda c: replace(c, logged=replace(c.logged, index=99)), "expected a checkpoint that covers it"),
            (0, lambda c: replace(c, logged=replace(c.logged, entry=b"{}")), "expected a kind and a version"),
            (
                0,
                lambda c: replace(c, logged=replace(c.logged, entry=STORY.log.entry(1))),
                "expected key.rotated or log.recovered, found appliance.started",
            ),
            (0, lambda c: replace(c, checkpoint=STORY.changes[2].checkpoint), "expected a signature by a known key"),
            (0, lambda c: replace(c, checkpoint="nothing"), "note: expected"),
            (1, lambda c: replace(c, grants=None), "expected grants and the proof of their base"),
            (1, lambda c: replace(c, base=None), "expected grants and the proof of their base"),
            (1, lambda c: replace(c, grants=b"others"), "expected the grants that the entry names"),
            (1, lambda c: replace(c, consistency=c.base), "expected a proof from size"),
            (1, lambda c: replace(c, base=c.consistency), "expected a proof from size"),
        ],
    )
    def test_a_change_that_does_not_show_itself(
        self, number: int, change: Callable[[KeyChange], KeyChange], words: str
    ) -> None:
        changes = list(STORY.history.changes)
        changes[number] = change(changes[number])
        with pytest.raises(KeyChangeError, match=words):
            followed(KeyHistory(changes=tuple(changes)))

    @pytest.mark.parametrize(
        ("signers", "words"),
        [
            (("log 2",), "a rotation without the old key's signature"),
            (("log",), "expected a signature by a known key"),
            (("log 3",), "expected a signature by a known key"),
        ],
    )
    def test_a_handover_signed_by_others_than_both(self, signers: tuple[str, ...], words: str) -> None:
        first, *others = STORY.history.changes
        head = Checkpoint.parse(first.checkpoint.encode()).head
        note = Checkpoint.sign(ORIGIN, head, log_key(signers[0])).encode().decode()
        with pytest.raises(KeyChangeError, match=words):
            followed(KeyHistory(changes=(replace(first, checkpoint=note), *others)))

    def test_grants_that_do_not_authorise_it(self) -> None:
        def none(agreement: Agreement, entry: LogRecovered, grants: bytes) -> None:
            raise SignatureError("no grants of these silos")

        keys = LogKeys.first(ORIGIN, FIRST.public)
        with pytest.raises(KeyChangeError, match="no grants of these silos"):
            follow(STORY.history, agreement=AGREEMENT, keys=keys, head=STORY.known, verify_grants=none)

    def test_another_agreements_change(self) -> None:
        other = agreement_of(lambda text: text.replace("rounds = 2", "rounds = 3"))
        keys = LogKeys.first(ORIGIN, FIRST.public)
        with pytest.raises(KeyChangeError, match="found one under another"):
            follow(STORY.history, agreement=other, keys=keys, head=STORY.known)

    def test_a_head_beyond_the_change(self) -> None:
        with pytest.raises(KeyChangeError, match="expected a change after the 9 entries that are known"):
            followed(STORY.history, TreeHead(size=9, root=bytes(32)))

    def test_a_head_of_another_history(self) -> None:
        with pytest.raises(KeyChangeError, match="consistency: expected the new root"):
            followed(STORY.history, TreeHead(size=2, root=bytes(32)))

    def test_nothing_known_but_the_key(self) -> None:
        first = replace(STORY.changes[0], consistency=Consistency(size=0, hashes=()))
        keys = followed(KeyHistory(changes=(first, *STORY.changes[1:])), NOTHING)
        assert keys == STORY.log.keys


class TestClaims:
    def test_they_are_found_and_believed_in_nothing(self) -> None:
        claims = claims_in(STORY.log.entries())
        assert claims.size == STORY.log.size
        assert not claims.unreadable
        assert claims.keys(ORIGIN, FIRST.public) == STORY.log.keys

    def test_what_is_malformed_claims_nothing(self) -> None:
        entries = [b'"kind":"key.rotated"', b"\xff", canonical.encode({"kind": "key.rotated", "version": 1, "time": 1})]
        assert claims_in(entries).changes == ()

    def test_a_newer_version_ends_the_look(self) -> None:
        newer = canonical.encode({"kind": "log.recovered", "version": 2})
        claims = claims_in([*STORY.log.entries(), newer, b"more"])
        assert claims.unreadable
        assert claims.size == STORY.log.size
