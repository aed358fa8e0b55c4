"""Logs that were recovered under another key, honest and forged, through `audit verify`: each cheat is named."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest
from audit_history import (
    LOG_KEY,
    QUORUM,
    Batch,
    Boot,
    Recorder,
    Told,
    agreement_of,
    identity,
    log_key,
    token,
    told,
)
from audit_tampering import FAIL, INCOMPLETE, PASS, audit, copy_of

from audit.entries import ApplianceStarted, Entry, LogRecovered, RoundOpened
from audit.grants import Recovered
from audit.merkle import Tree, leaf_hash
from audit.note import Checkpoint
from audit.phases import RESTART
from audit.report import AuditReport, Line
from audit.resources import object_name
from protocol.recovery import RecoveryGrant, RecoveryGrants, sign_grant

AGREEMENT = agreement_of()
NEXT = Boot("B", log="log 2")
INITIAL = AGREEMENT.model.initial
MODEL = token("model 1")
OWNERS = [silo.owner for silo in AGREEMENT.silos]
# Three silos of two owners.
TWINS = tuple(
    sorted((silo.name for silo in AGREEMENT.silos), key=lambda name: -OWNERS.count(AGREEMENT.silo(name).owner))[:3]
)


def root_of(recorder: Recorder) -> bytes:
    leaves = [entry for batch in recorder.batches for entry in batch.entries]
    return Tree(leaf_hash(leaf if isinstance(leaf, bytes) else leaf.encode()) for leaf in leaves).head().root


def admit_all(recorder: Recorder) -> None:
    for silo in ("silo-0", "silo-2", "silo-4"):
        recorder.batch(recorder.admitted(silo))


def train(recorder: Recorder) -> None:
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    for silo in ("silo-0", "silo-2", "silo-4"):
        recorder.batch(recorder.accepted(silo))
    recorder.batch(recorder.committed())
    recorder.batch(recorder.published())


Change = Callable[[RecoveryGrant], RecoveryGrant]


def signed(entry: LogRecovered, silo: str, models: tuple[bytes, ...], change: Change) -> bytes:
    return sign_grant(identity(silo), change(Recovered.by(entry).grant(AGREEMENT, silo, models)))


def history(
    *,
    silos: tuple[str, ...] = QUORUM,
    held: tuple[bytes, ...] = (MODEL,),
    model: bytes = MODEL,
    change: Change = lambda grant: grant,
    entry: Callable[[LogRecovered], LogRecovered] = lambda entry: entry,
    lost: bool = True,
) -> Told:
    """A round, an attempt in the midst of which the key is lost, a recovery, another round, the end.

    `silos` grant, each with `change` made before it signs; `entry` is changed once it names the grants.
    """
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    admit_all(recorder)
    train(recorder)
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    recorder.batch(recorder.accepted("silo-0"))
    claimed = recorder.recovered(NEXT, root=root_of(recorder), grants=b"", model=model)
    grants = RecoveryGrants(grants=tuple(signed(claimed, silo, held, change) for silo in silos)).encode()
    entries: list[Entry] = [entry(replace(claimed, grants=recorder.put(grants))), recorder.started()]
    for each in entries:
        recorder.history.apply(each)
    entries.append(recorder.abandoned(RESTART))
    recorder.history.apply(entries[-1])
    recorder.batches.append(Batch(tuple(entries), successor=NEXT.log, lost=lost))
    admit_all(recorder)
    train(recorder)
    recorder.batch(recorder.closed(), cosigners=QUORUM)
    return told(recorder)


HONEST = history()
STORE = HONEST.store()
INDEX = HONEST.index(LogRecovered)


def diverged(report: AuditReport, index: int, line: Line, words: str) -> None:
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert (report.divergence.entry, report.divergence.line) == (index, line), report.divergence
    assert words in report.divergence.problem, report.divergence.problem


def test_it_passes_and_says_what_was_lost_and_granted() -> None:
    report = audit(STORE)
    assert report.verdict is PASS, report.divergence or report.missing
    former, key = LOG_KEY.public, log_key("log 2").public
    assert f"entry {INDEX} (log.recovered): the log's key {former} was lost, and silos granted {key}" in (
        report.information
    )


def test_an_owners_two_silos_may_both_grant() -> None:
    assert audit(history(silos=("silo-0", "silo-1", "silo-2", "silo-3", "silo-4")).store()).verdict is PASS


class TestGrants:
    @pytest.mark.parametrize(
        ("silos", "words"),
        [
            ((), "grants: expected those of 3 owners, found nobody"),
            (QUORUM[:2], "grants: expected those of 3 owners, found"),
            (TWINS, "grants: expected those of 3 owners, found"),
            ((*QUORUM, QUORUM[0]), f"expected one of each silo, found two of {QUORUM[0]}"),
        ],
    )
    def test_too_few_or_twice(self, silos: tuple[str, ...], words: str) -> None:
        diverged(audit(history(silos=silos).store()), INDEX, Line.TRUST, words)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"boot_id": token("boot A")}, "boot: expected"),
            ({"keys": token("other keys")}, "digest of the new keys: expected"),
            ({"previous": token("another key")}, "key that is lost: expected"),
            ({"size": INDEX - 1}, f"size: expected {INDEX}, found {INDEX - 1}"),
            ({"root": token("a fork")}, "root: expected"),
            ({"agreement": token("another agreement")}, "agreement: expected"),
            ({"silo": "silo-4"}, "the signature is not by"),
            ({"silo": "nobody"}, "unknown-silo"),
        ],
    )
    def test_for_something_else(self, changes: dict[str, object], words: str) -> None:
        def change(grant: RecoveryGrant) -> RecoveryGrant:
            return replace(grant, **changes) if grant.silo == QUORUM[-1] else grant  # type: ignore[arg-type]

        diverged(audit(history(change=change).store()), INDEX, Line.TRUST, words)

    def test_an_object_that_is_none(self) -> None:
        other = HONEST.with_fields(INDEX, b"{}", grants=sha256(b"{}").digest())
        diverged(audit(other.store()), INDEX, Line.TRUST, "grants: grants: recovery-grants")

    def test_none_that_could_be_checked(self) -> None:
        store, entry = copy_of(STORE), HONEST.entries[INDEX]
        assert isinstance(entry, LogRecovered)
        store.delete(object_name(entry.grants))
        report = audit(store)
        assert report.verdict is INCOMPLETE
        assert any("expected the silos' grants, found none" in str(finding) for finding in report.missing)


class TestTheEntry:
    def test_over_another_log_than_the_one_before_it(self) -> None:
        other = HONEST.with_fields(INDEX, root=token("a fork"))
        diverged(audit(other.store()), INDEX, Line.TRUST, "root: expected that of the entries before it")

    def test_over_a_smaller_log(self) -> None:
        """As if what came after had never been: the index says what there was."""
        other = HONEST.with_fields(INDEX, size=INDEX - 2)
        diverged(audit(other.store()), INDEX, Line.ENTRIES, f"size (this entry's index): expected {INDEX}")

    def test_evidence_for_another_purpose(self) -> None:
        started = HONEST.entries[HONEST.index(ApplianceStarted, 1)]
        assert isinstance(started, ApplianceStarted)
        other = HONEST.with_fields(INDEX, evidence=started.evidence)
        diverged(audit(other.store()), INDEX, Line.EVIDENCE, "evidence: expected")

    def test_a_model_that_was_never_published(self) -> None:
        other = HONEST.with_fields(INDEX, model=token("the operator's"))
        diverged(audit(other.store()), INDEX, Line.ENTRIES, "expected the initial model or one that was published")

    def test_an_older_model_than_a_silo_holds(self) -> None:
        words = f"model: expected sha256:{MODEL.hex()}, the newest that a silo which granted holds"
        diverged(audit(history(model=INITIAL).store()), INDEX, Line.TRUST, words)

    def test_a_model_that_no_silo_holds(self) -> None:
        words = f"model: expected sha256:{INITIAL.hex()}"
        diverged(audit(history(held=()).store()), INDEX, Line.TRUST, words)

    def test_the_initial_model_where_no_silo_holds_another(self) -> None:
        assert audit(history(held=(), model=INITIAL).store()).verdict is PASS

    def test_controls_that_go_on(self) -> None:
        """A recovery resets them: an attempt afterwards can't name the ones before."""
        index = HONEST.index(RoundOpened, -1)
        other = HONEST.with_fields(index, control=token("control 1"))
        diverged(audit(other.store()), index, Line.ENTRIES, "control variate: expected")


class TestSignatures:
    def test_the_lost_key_signs_nothing_above(self) -> None:
        """It was not lost: whoever has it can't go on with it."""
        report = audit(history(lost=False).store())
        assert report.verdict is FAIL
        assert any(f"signed with a key that was retired at entry {INDEX}" in str(each) for each in report.damage)

    def test_nor_alone(self) -> None:
        store = copy_of(STORE)
        newest = Checkpoint.parse(store.read("log/checkpoint"))
        forged = Checkpoint.sign(newest.origin, newest.head, LOG_KEY).encode()
        for name in ("log/checkpoint", f"log/checkpoints/{newest.size}.note"):
            store.write(name, forged)
        report = audit(store)
        assert report.verdict is FAIL
        assert f"signed with a key that was retired at entry {INDEX}" in str(report.damage[0])

    def test_a_recovery_that_a_kept_checkpoint_does_not_know(self) -> None:
        """The former appliance went on, and a silo has its checkpoint: two histories."""
        base = HONEST.until(INDEX)
        former = Recorder(AGREEMENT)
        former.batches, former.time = list(base.batches), former.time + 1_000
        for entry in base.entries:
            assert not isinstance(entry, bytes)
            former.history.apply(entry)
        former.uploads = 1_000
        former.batch(former.accepted("silo-2"))
        ours = Checkpoint.parse(told(former).store().read("log/checkpoint"))
        assert ours.size == INDEX + 1
        report = audit(STORE, ours=ours)
        assert report.verdict is FAIL
