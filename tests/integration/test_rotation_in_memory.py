"""The log key is rotated in the middle of a federation: real enclave, real silo machines, in memory.

The result is bit for bit that of a federation whose key never changed, controls included; silos follow by themselves,
and believe a retired key in nothing.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from memory_federation import MemoryFederation, MemorySilo, signing_key
from stopping_store import Stopped, StoppingStore

from appliance.enclave.startup import StartRefusedError
from audit.entries import KeyRotated, parse_entry
from audit.log import LogReader
from audit.log_files import LogFiles
from audit.log_keys import RetiredKeyError
from audit.note import Checkpoint
from audit.proof import Receipt
from audit.report import AuditVerdict
from audit.resources import CHECKPOINT, checkpoint_name, checkpoint_sizes
from audit.store import MemoryStore
from audit.verify import verify
from protocol.errors import MalformedError, RefusalCode, RefusedError
from protocol.key_history import CATCHUP_LABEL, MAXIMUM_CHANGES, Catchup, KeyHistory
from protocol.keys import VerifyingKey
from protocol.session import Consistency, CosignRequest
from protocol.signed import sign_message
from silo_client.bodies import read_control
from silo_client.machine import Decline
from silo_client.state import SiloState
from silo_client.witness import LogBrokenError

ROUNDS = 2
Moment = Callable[[MemoryFederation], bool]


def federation_of(store: MemoryStore | None = None) -> MemoryFederation:
    return MemoryFederation(silos=3, replace={"rounds = 40": f"rounds = {ROUNDS}"}, store=store)


def begun(until: Moment | None = None) -> MemoryFederation:
    federation = federation_of()
    federation.enrol_all()
    federation.run(until=(lambda: until(federation)) if until else None)
    return federation


def published(rounds: int) -> Moment:
    return lambda federation: federation.kinds().count("round.published") == rounds


def newest(kind: str) -> Moment:
    return lambda federation: federation.kinds()[-1] == kind and federation.kinds().count("round.published") == 1


def rotate(federation: MemoryFederation, *silos: MemorySilo) -> None:
    """Restart under a new log key; these silos (all, unless told) enrol again."""
    federation.boot(rotate_log_key=True)
    for silo in silos or tuple(federation.silos.values()):
        federation.enrol(silo)


def end_of(federation: MemoryFederation) -> list[torch.Tensor]:
    silos = federation.silos.values()
    assert all(silo.finished for silo in silos), [silo.errors for silo in silos]
    controls = [read_control(silo.machine.state, federation.layout) for silo in silos]
    return [silo.models[-1] for silo in silos] + controls


def assert_as_undisturbed(federation: MemoryFederation) -> None:
    assert all(torch.equal(one, other) for one, other in zip(end_of(federation), UNDISTURBED, strict=True))


def assert_passes(federation: MemoryFederation) -> None:
    report = verify(LogFiles(federation.store), federation.agreement)
    assert report.verdict is AuditVerdict.PASS, (report.divergence, report.damage, report.missing)


def copy_of(store: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    for name in store.list(""):
        copy.write(name, store.read(name))
    return copy


def newest_note(federation: MemoryFederation) -> Checkpoint:
    return Checkpoint.parse(federation.store.read(CHECKPOINT))


def log_keys(federation: MemoryFederation) -> list[bytes]:
    """All log keys in order, as leaf 0 and the rotations name them."""
    entries = [parse_entry(data) for _, data in federation.history()]
    return [entries[0].keys.log] + [entry.keys.log for entry in entries if isinstance(entry, KeyRotated)]  # type: ignore[attr-defined]


UNDISTURBED = end_of(begun())


class TestGoesOn:
    @pytest.mark.parametrize(
        "moment",
        [
            published(0),
            newest("round.opened"),
            newest("update.accepted"),
            published(1),
        ],
        ids=["before the first round", "announced", "collecting", "after round 1"],
    )
    def test_whenever_it_is_rotated_the_federation_ends_as_without(self, moment: Moment) -> None:
        federation = begun(moment)
        rotate(federation)
        federation.run()
        assert_as_undisturbed(federation)
        assert_passes(federation)
        assert federation.kinds().count("key.rotated") == 1

    def test_after_the_end(self) -> None:
        federation = begun()
        rotate(federation)
        federation.run()
        kinds = federation.kinds()
        assert kinds.index("log.closed") < kinds.index("key.rotated")
        assert_as_undisturbed(federation)
        assert_passes(federation)

    def test_before_the_first_model_there_is_nothing_to_seal_again(self) -> None:
        federation = federation_of()
        federation.boot(rotate_log_key=True)
        federation.enrol_all()
        federation.run()
        assert_as_undisturbed(federation)
        assert_passes(federation)

    def test_twice_in_a_row_and_between_rounds(self) -> None:
        federation = begun(published(1))
        federation.boot(rotate_log_key=True)
        rotate(federation)
        federation.run(until=lambda: federation.kinds()[-1] == "update.accepted")
        rotate(federation)
        federation.run()
        assert_as_undisturbed(federation)
        assert_passes(federation)
        assert len(set(log_keys(federation))) == 4

    def test_then_a_boot_without_rotation_goes_on_under_the_new_key(self) -> None:
        federation = begun(published(1))
        rotate(federation)
        federation.boot()
        for silo in federation.silos.values():
            federation.enrol(silo)
        federation.run()
        assert_as_undisturbed(federation)
        assert_passes(federation)

    def test_the_retired_key_is_in_no_state_any_more(self) -> None:
        federation = begun(published(1))
        before = set(federation.store.list("state/")) | set(federation.store.list("models/"))
        rotate(federation)
        after = set(federation.store.list("state/")) | set(federation.store.list("models/"))
        assert before
        assert after
        assert not before & after


class TestSilos:
    def test_one_that_was_away_follows_over_several_rotations(self) -> None:
        """Its answers come in pieces: more changes than one holds."""
        federation = begun(published(1))
        here = [silo for name, silo in federation.silos.items() if name != "silo-2"]
        for _ in range(MAXIMUM_CHANGES + 2):
            federation.boot(rotate_log_key=True)
        for silo in here:
            federation.enrol(silo)
        # A new process, which knows what is on its disk.
        late = federation.silo("silo-2")
        known = late.machine.state.log_key
        asked = 0
        welcome = federation.enclave.hello(late.machine.hello())
        while (question := late.machine.catchup(welcome)) is not None:
            assert late.machine.state.log_key == known  # Nothing is kept before the way is shown whole.
            late.machine.caught_up(welcome, federation.enclave.hello(question))
            asked += 1
        assert asked == 2
        late.machine.admitted(federation.enclave.enrol(late.machine.welcome(welcome)))
        federation.enclave.receive("silo-2", late.machine.join())
        federation.run()
        assert all(silo.finished for silo in federation.silos.values())
        assert late.machine.state.log_key is not None
        assert late.machine.state.log_key.raw == log_keys(federation)[-1]

    def test_its_receipts_are_verified_each_under_the_key_of_its_time(self) -> None:
        federation = begun(published(1))
        rotate(federation)
        federation.run()
        state = federation.silos["silo-0"].machine.state
        keys = state.log_keys(federation.agreement.log.origin)
        assert keys is not None
        kinds = set()
        signers = set()
        for name in state.receipts():
            entry, proof = state.read_receipt(name)
            receipt = Receipt.parse(proof)
            receipt.verify(entry, log_key=keys.signer(receipt.checkpoint), quorum=None)
            signers.add(keys.signer(receipt.checkpoint).public)
            kinds.add(parse_entry(entry).KIND)
        assert signers == set(log_keys(federation))
        assert "key.rotated" in kinds

    def test_what_it_adopts_is_durable(self) -> None:
        federation = begun(published(1))
        rotate(federation)
        state = SiloState.read_only(
            federation.silo_stores["silo-0"], agreement=federation.agreement.digest, silo="silo-0"
        )
        assert state.log_key is not None
        assert state.log_key.raw == log_keys(federation)[-1]
        assert state.head is not None
        # The head under which the key was handed over: what this boot has logged since is not believed unseen.
        assert state.head.size == federation.kinds().index("key.rotated") + 3

    @pytest.mark.parametrize("after", [False, True])
    def test_a_crash_at_each_write_of_following(self, after: bool) -> None:
        federation = begun(published(1))
        federation.boot(rotate_log_key=True)
        kept = copy_of(federation.silo_stores["silo-0"])
        writes = 0
        while True:
            writes += 1
            store = StoppingStore(copy_of(kept), writes, after)
            federation.silo_stores["silo-0"] = store  # type: ignore[assignment]
            try:
                federation.enrol(federation.silo("silo-0"))
            except Stopped:
                federation.silo_stores["silo-0"] = store.inner
                federation.enrol(federation.silo("silo-0"))
                continue
            store.stop_at = None
            break
        assert writes > 3
        for name in ("silo-1", "silo-2"):
            federation.enrol(federation.silos[name])
        federation.run()
        assert_as_undisturbed(federation)


class TestRefused:
    def test_a_checkpoint_by_the_retired_key(self) -> None:
        """Somebody has stolen the old key: what it signs above the rotation is believed by nobody."""
        federation = begun(published(1))
        stolen = federation.enclave._boot.log_key
        rotate(federation)
        silo = federation.silos["silo-0"].machine
        index = federation.kinds().index("key.rotated")
        head = newest_note(federation).head
        forged = Checkpoint.sign(federation.agreement.log.origin, head, stolen)
        request = CosignRequest(
            checkpoint=forged.encode().decode(),
            consistency=Consistency(
                size=silo.state.head.size,  # type: ignore[union-attr]
                hashes=LogReader(federation.store).consistency(silo.state.head.size),  # type: ignore[union-attr]
            ),
        )
        with pytest.raises(RetiredKeyError, match=f"signed with a key that was retired at entry {index}"):
            silo.handle(request.encode())

    def test_a_store_from_before_the_rotation(self) -> None:
        federation = begun(published(1))
        older = copy_of(federation.store)  # type: ignore[arg-type]
        rotate(federation)
        federation.boot(store=older)
        silo = federation.silos["silo-0"]
        with pytest.raises(LogBrokenError, match="signed with a key that was retired at entry") as refused:
            federation.enrol(silo)
        assert refused.value.refusal.code is RefusalCode.LOG_ROLLED_BACK

    def test_another_branch_with_its_own_rotation(self) -> None:
        """The same store is rotated twice, on two machines: a silo that has followed one does not follow the other."""
        federation = begun(published(1))
        other = copy_of(federation.store)  # type: ignore[arg-type]
        rotate(federation)
        federation.boot(store=other, rotate_log_key=True)
        with pytest.raises(RefusedError) as refused:
            federation.enrol(federation.silos["silo-0"])
        assert refused.value.refusal.code is RefusalCode.OTHER_LOG
        silo = federation.silos["silo-0"].machine
        welcome = federation.enclave.hello(silo.hello())
        with pytest.raises(LogBrokenError, match="a second genesis under the same agreement"):
            silo.welcome(welcome)

    def test_a_second_genesis(self) -> None:
        federation = begun(published(1))
        federation.boot(store=MemoryStore())
        silo = federation.silos["silo-0"].machine
        welcome = federation.enclave.hello(silo.hello())
        question = silo.catchup(welcome)
        assert question is not None
        with pytest.raises(RefusedError, match="a key which this log never had"):
            federation.enclave.hello(question)
        with pytest.raises(LogBrokenError, match="a second genesis"):
            silo.welcome(welcome)

    def test_a_silo_that_has_seen_more_than_the_rotated_store(self) -> None:
        federation = begun(published(1))
        older = copy_of(federation.store)  # type: ignore[arg-type]
        federation.run(until=lambda: published(2)(federation))
        federation.boot(store=older, rotate_log_key=True)
        with pytest.raises(RefusedError) as refused:
            federation.enrol(federation.silos["silo-0"])
        assert refused.value.refusal.code is RefusalCode.LOG_ROLLED_BACK

    @pytest.mark.parametrize(
        "change",
        [
            lambda history: replace(history, changes=()),
            lambda history: replace(history, changes=history.changes[1:]),
            lambda history: replace(history, changes=history.changes[::-1]),
            lambda history: replace(history, changes=(history.changes[0], history.changes[0])),
            lambda history: replace(
                history,
                changes=(replace(history.changes[0], checkpoint=history.changes[1].checkpoint), *history.changes[1:]),
            ),
        ],
        ids=["nothing", "not the first", "the wrong way round", "one twice", "another's checkpoint"],
    )
    def test_a_history_of_keys_that_leads_nowhere(self, change: Callable[[KeyHistory], KeyHistory]) -> None:
        federation = begun(published(1))
        federation.boot(rotate_log_key=True)
        federation.boot(rotate_log_key=True)
        silo = federation.silos["silo-0"].machine
        welcome = federation.enclave.hello(silo.hello())
        question = silo.catchup(welcome)
        assert question is not None
        answer = change(KeyHistory.parse(federation.enclave.hello(question)))
        known = silo.state.log_key, silo.state.head
        with pytest.raises(LogBrokenError, match="a history of keys that does not lead there") as refused:
            silo.caught_up(welcome, answer.encode())
        files = federation.silo_stores["silo-0"].list(refused.value.evidence + "/")
        assert [name.rpartition("/")[2] for name in files] == ["key-history.json", "ours.note", "theirs.note"]
        assert (silo.state.log_key, silo.state.head) == known

    def test_an_answer_that_is_none(self) -> None:
        federation = begun(published(1))
        federation.boot(rotate_log_key=True)
        silo = federation.silos["silo-0"].machine
        welcome = federation.enclave.hello(silo.hello())
        assert silo.catchup(welcome) is not None
        with pytest.raises(MalformedError, match="the appliance's history of log keys"):
            silo.caught_up(welcome, b"{}")

    def test_strangers_are_told_nothing(self) -> None:
        federation = begun(published(1))
        known = federation.silos["silo-0"].machine.state.log_key
        assert isinstance(known, VerifyingKey)
        catchup = Catchup(silo="silo-0", agreement=federation.agreement.digest, log_key=known.raw, head=0)
        with pytest.raises(RefusedError, match="another key's signature"):
            federation.enclave.hello(sign_message(signing_key("silo-1"), CATCHUP_LABEL, catchup.encode()))
        unknown = replace(catchup, silo="silo-9")
        with pytest.raises(RefusedError, match="silo-9"):
            federation.enclave.hello(sign_message(signing_key("silo-9"), CATCHUP_LABEL, unknown.encode()))
        other = replace(catchup, agreement=bytes(32))
        with pytest.raises(RefusedError) as refused:
            federation.enclave.hello(sign_message(signing_key("silo-0"), CATCHUP_LABEL, other.encode()))
        assert refused.value.refusal.code is RefusalCode.AGREEMENT_MISMATCH
        answer = federation.enclave.hello(sign_message(signing_key("silo-0"), CATCHUP_LABEL, catchup.encode()))
        assert KeyHistory.parse(answer).changes == ()


class TestDamagedStores:
    def test_a_handover_whose_old_signature_was_taken_away(self) -> None:
        federation = begun(published(1))
        rotate(federation)
        index = federation.kinds().index("key.rotated")
        size = next(size for size in checkpoint_sizes(federation.store) if size > index)
        note = Checkpoint.parse(federation.store.read(checkpoint_name(size)))
        stripped = replace(note, note=replace(note.note, signatures=note.note.signatures[1:]))
        federation.store.write(checkpoint_name(size), stripped.encode())
        with pytest.raises(StartRefusedError, match=f"expected the keys before and after entry {index}"):
            federation.boot()

    def test_another_tcb_opens_no_state(self) -> None:
        federation = begun(published(1))
        rotate(federation)
        with pytest.raises(StartRefusedError, match="sealed by another image"):
            federation.boot(measurement=bytes(48))


def test_a_decline_is_said_to_the_appliance_and_kept() -> None:
    """A fork by the present key after a rotation convicts it as one before would."""
    federation = begun(published(1))
    rotate(federation)
    key = federation.enclave._boot.log_key
    silo = federation.silos["silo-0"].machine
    federation.run(until=lambda: published(2)(federation))
    head = silo.state.head
    assert head is not None
    forged = Checkpoint.sign(federation.agreement.log.origin, replace(head.head, root=bytes(32)), key)
    request = CosignRequest(checkpoint=forged.encode().decode(), consistency=Consistency(size=head.size, hashes=()))
    step = silo.handle(request.encode())
    assert isinstance(step, Decline)
    assert step.error.refusal.code is RefusalCode.LOG_FORKED
