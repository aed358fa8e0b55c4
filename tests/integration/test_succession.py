"""One federation after another: a real enclave ends a log for its successor, another one goes on from it."""

import pytest
import torch
from audit_tampering import copy_of
from memory_federation import MemoryFederation, signing_key
from successions import NEW_ORIGIN, OLD_ORIGIN, approvals, ended, handover, successor_of, successor_text

from appliance.enclave.startup import StartRefusedError
from appliance.enclave.succession import Successor
from audit.entries import LogGenesis, LogSuperseded, parse_entry
from audit.lineage import verify_predecessor
from audit.log import LogReader
from audit.log_files import LogFiles
from audit.report import AuditVerdict
from audit.store import MemoryStore
from audit.verify import verify
from protocol.agreement import Agreement
from protocol.layout import Section
from protocol.succession import SuccessionError, approval_of, check_approvals, check_successor

ROUNDS = {"rounds = 40": "rounds = 3"}


def after_a_round(**options: object) -> MemoryFederation:
    """A federation that has published at least one of its three rounds, and is in the middle of another."""
    federation = MemoryFederation(replace=ROUNDS, **options)  # type: ignore[arg-type]
    federation.enrol_all()
    federation.run(until=lambda: federation.enclave._ledger.history.published_rounds == 1)
    return federation


def going_on(federation: MemoryFederation, new: Agreement) -> MemoryFederation:
    """The federation of the successor, on a store of its own."""
    following = MemoryFederation(agreement=new, predecessor=federation.store)
    following.initial[Section.PARAMETERS].copy_(federation.silos["silo-0"].models[-1])
    return following


def entries(store: MemoryStore) -> list[object]:
    return [parse_entry(data) for data in LogReader(store).entries()]


def test_a_federation_goes_on_under_the_next_agreement_from_the_model_that_it_had() -> None:
    federation = after_a_round()
    new = successor_of(federation)
    ended(federation, new)
    assert all(silo.finished for silo in federation.silos.values())
    (end,) = (entry for entry in entries(federation.store) if isinstance(entry, LogSuperseded))
    assert (end.successor, end.rounds) == (new.digest, 1)
    assert verify(LogFiles(federation.store), federation.agreement).verdict is AuditVerdict.PASS

    following = going_on(federation, new)
    following.enrol_all()
    following.run()
    assert all(silo.finished for silo in following.silos.values())
    assert torch.equal(following.silos["silo-0"].models[0], federation.silos["silo-0"].models[-1])
    genesis = entries(following.store)[0]
    assert isinstance(genesis, LogGenesis)
    assert genesis.predecessor is not None
    assert (genesis.predecessor.agreement, genesis.predecessor.model) == (federation.agreement.digest, end.model)
    assert verify(LogFiles(following.store), new).verdict is AuditVerdict.PASS


def test_a_silo_may_leave_and_another_may_join() -> None:
    federation = after_a_round()
    new = successor_of(
        federation,
        replace={
            str(signing_key("silo-3").public): str(signing_key("silo-9").public),
            'name = "silo-3"': 'name = "silo-9"',
        },
    )
    ended(federation, new, ["silo-0", "silo-1", "silo-2"])
    following = going_on(federation, new)
    following.enrol_all()
    following.run()
    assert all(silo.finished for silo in following.silos.values())
    assert verify(LogFiles(following.store), new).verdict is AuditVerdict.PASS


def test_a_finished_federation_can_be_gone_on_from() -> None:
    federation = MemoryFederation(replace={"rounds = 40": "rounds = 1"})
    federation.enrol_all()
    federation.run()
    new = successor_of(federation)
    ended(federation, new)
    assert verify(LogFiles(federation.store), federation.agreement).verdict is AuditVerdict.PASS
    assert going_on(federation, new).enclave._ledger.history.genesis is not None


def test_started_again_with_the_same_successor_it_says_nothing_twice() -> None:
    federation = after_a_round()
    new = successor_of(federation)
    federation.boot(successor=handover(new))
    federation.boot(successor=handover(new))
    assert sum(isinstance(entry, LogSuperseded) for entry in entries(federation.store)) == 1
    other = successor_of(federation, replace={"local_steps = 10": "local_steps = 11"})
    with pytest.raises(StartRefusedError, match="once and for all"):
        federation.boot(successor=handover(other))


class TestLineage:
    def test_both_logs_are_verified_and_the_seam_between_them(self) -> None:
        federation = after_a_round()
        new = successor_of(federation)
        ended(federation, new)
        following = going_on(federation, new)
        old, report = verify_predecessor(LogFiles(following.store), new, LogFiles(federation.store))
        assert (old.digest, report.verdict) == (federation.agreement.digest, AuditVerdict.PASS)

    def test_an_old_log_that_was_cut_before_its_end_is_not_the_predecessor(self) -> None:
        federation = after_a_round()
        earlier = copy_of(federation.store)
        new = successor_of(federation)
        ended(federation, new)
        following = going_on(federation, new)
        _, report = verify_predecessor(LogFiles(following.store), new, LogFiles(earlier))
        assert report.verdict is AuditVerdict.FAIL
        assert "it was rolled back, or cut" in str(report.divergence)

    def test_another_old_log_is_not_the_predecessor(self) -> None:
        federation, other = after_a_round(), after_a_round()
        new = successor_of(federation)
        ended(federation, new)
        following = going_on(federation, new)
        _, report = verify_predecessor(LogFiles(following.store), new, LogFiles(other.store))
        assert report.verdict is AuditVerdict.FAIL

    def test_an_agreement_without_predecessor(self) -> None:
        federation = after_a_round()
        with pytest.raises(SuccessionError, match="succeeds none"):
            verify_predecessor(LogFiles(federation.store), federation.agreement, LogFiles(federation.store))


class TestRefusals:
    def refused(self, federation: MemoryFederation, successor: Successor, words: str) -> None:
        size = len(entries(federation.store))
        with pytest.raises(StartRefusedError, match=words):
            federation.boot(successor=successor)
        assert len(entries(federation.store)) == size

    def test_a_silo_that_continues_has_not_approved(self) -> None:
        federation = after_a_round()
        new = successor_of(federation)
        self.refused(federation, handover(new, ["silo-0", "silo-1", "silo-2"]), "found none of silo-3")

    def test_an_approval_of_another_agreement(self) -> None:
        federation = after_a_round()
        new, other = (
            successor_of(federation),
            successor_of(federation, replace={"local_steps = 10": "local_steps = 11"}),
        )
        mixed = (*approvals(new, ["silo-0", "silo-1", "silo-2"]), *approvals(other, ["silo-3"]))
        self.refused(federation, Successor(agreement=new, approvals=mixed), "approval of silo-3: expected one of")

    def test_an_approval_by_another_key(self) -> None:
        federation = after_a_round()
        new = successor_of(federation)
        forged = approval_of(new, "silo-3").sign(signing_key("somebody"))
        mixed = (*approvals(new, ["silo-0", "silo-1", "silo-2"]), forged)
        self.refused(federation, Successor(agreement=new, approvals=mixed), "approval of silo-3: the signature is not")

    def test_another_model_than_was_published(self) -> None:
        federation = after_a_round()
        text = successor_text(federation.agreement, rounds=1, model=bytes(32))
        new = Agreement.parse(text.encode(), "federation.toml")
        self.refused(federation, handover(new), "initial: expected the model of round 1")

    def test_another_number_of_rounds(self) -> None:
        federation = after_a_round()
        text = successor_text(federation.agreement, rounds=2, model=federation.enclave._ledger.history.model)
        new = Agreement.parse(text.encode(), "federation.toml")
        self.refused(federation, handover(new), "rounds: expected 1, as were published, found 2")

    def test_nothing_was_published_yet(self) -> None:
        federation = MemoryFederation()
        text = successor_text(federation.agreement, rounds=1, model=federation.agreement.model.initial)
        new = Agreement.parse(text.encode(), "federation.toml")
        self.refused(federation, handover(new), "rounds: expected 0|rounds")

    def test_the_new_appliance_is_given_no_predecessor(self) -> None:
        federation = after_a_round()
        new = successor_of(federation)
        ended(federation, new)
        with pytest.raises(StartRefusedError, match="name its store in appliance.toml"):
            MemoryFederation(agreement=new)

    def test_the_predecessor_has_not_ended(self) -> None:
        federation = after_a_round()
        with pytest.raises(StartRefusedError, match="has not ended"):
            MemoryFederation(agreement=successor_of(federation), predecessor=federation.store)

    def test_no_quorum_has_cosigned_the_end(self) -> None:
        federation = after_a_round()
        new = successor_of(federation)
        federation.boot(successor=handover(new))
        with pytest.raises(StartRefusedError, match="no quorum has cosigned that"):
            MemoryFederation(agreement=new, predecessor=federation.store)

    def test_the_predecessor_ended_for_another(self) -> None:
        federation = after_a_round()
        new, other = (
            successor_of(federation),
            successor_of(federation, replace={"local_steps = 10": "local_steps = 11"}),
        )
        ended(federation, new)
        with pytest.raises(StartRefusedError, match="has ended for"):
            MemoryFederation(agreement=other, predecessor=federation.store)

    def test_the_predecessors_log_is_damaged(self) -> None:
        federation = after_a_round()
        new = successor_of(federation)
        ended(federation, new)
        store = federation.store
        name = next(name for name in store.list("log/tile/entries/"))
        data = bytearray(store.read(name))
        data[len(data) // 2] ^= 1
        store.write(name, bytes(data))
        with pytest.raises(StartRefusedError, match="does not verify: FAIL"):
            MemoryFederation(agreement=new, predecessor=store)


class TestAgreements:
    def test_what_a_successor_must_be(self) -> None:
        federation = after_a_round()
        old, model = federation.agreement, federation.enclave._ledger.history.model

        def problem(replace: dict[str, str]) -> str:
            text = successor_text(old, rounds=1, model=model, replace=replace)
            with pytest.raises(SuccessionError) as caught:
                check_successor(old, Agreement.parse(text.encode(), "federation.toml"))
            return str(caught.value)

        assert "origin of its own" in problem({NEW_ORIGIN: OLD_ORIGIN})
        assert "expected [predecessor] agreement" in problem(
            {f"sha256:{old.digest.hex()}": f"sha256:{bytes(32).hex()}"}
        )
        assert "layout" in problem({f"sha256:{old.model.layout.hex()}": f"sha256:{bytes(32).hex()}"})
        others = {str(signing_key(f"silo-{i}").public): str(signing_key(f"silo-{i + 5}").public) for i in (0, 1)}
        assert "a quorum, with their identity keys, found 2" in problem(others)

    def test_approvals_come_in_any_order_and_twice(self) -> None:
        federation = after_a_round()
        new = successor_of(federation)
        signed = approvals(new, ["silo-0", "silo-1", "silo-2", "silo-3"])
        expected = check_approvals(signed, federation.agreement, new)
        assert check_approvals((*reversed(signed), signed[0]), federation.agreement, new) == expected
