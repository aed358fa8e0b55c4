"""A log whose key is lost goes on under another with the silos' leave: real enclave, real silo machines, in memory."""

import pytest
from lost_key import (
    come_back,
    commit,
    copy_of,
    federation_of,
    logged,
    lose,
    model_of,
    passed,
    reached,
    recovered,
    run_to_the_end,
)
from memory_federation import MemoryFederation, content_of

from appliance.enclave.machine import Enclave
from appliance.enclave.recovering import Recovering
from appliance.enclave.startup import StartRefusedError
from attestation.collect.errors import CollectError, NoSealingKey
from attestation.collect.platform import SimulatedPlatform
from attestation.evidence import Evidence
from audit.entries import LogClosed, RoundAbandoned, RoundOpened
from audit.log_files import LogFiles
from audit.predecessor import read_standing
from audit.store import MemoryStore
from protocol.errors import RefusalCode, RefusedError

QUORUM = ("silo-0", "silo-1", "silo-3")


def recover(made: MemoryFederation) -> None:
    lose(made.store)
    made.recover()
    standing = made.authorise(*QUORUM)
    assert standing is not None
    assert standing.recovered == made.enclave.describe().log_size
    come_back(made)


def forget(made: MemoryFederation, name: str) -> None:
    """A silo keeps no model (any more)."""
    store = made.silo_stores[name]
    for file in store.list(""):
        if "/models/" in file:
            store.delete(file)


# When the key is lost: at the first entry of this kind after so many rounds, whose models silos hold by then.
STAGES = {
    "silo.admitted": 0,
    "round.opened": 0,
    "update.accepted": 1,
    "round.committed": 1,
    # Of a round that is published and not announced yet, nobody has the model.
    "round.published": 0,
    "log.closed": 2,
}


def sampled(kind: str) -> object:
    """One of the stages; the others are in the whole suite."""
    return kind if kind == "update.accepted" else pytest.param(kind, marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", [sampled(kind) for kind in STAGES])
def test_the_key_is_lost_at_any_stage(kind: str) -> None:
    rounds, made = STAGES[kind], federation_of(3 if kind != "log.closed" else 2)
    if kind == "round.committed":
        commit(made, rounds)
    else:
        made.run(until=lambda: reached(kind, rounds)(made))
    lose(made.store)
    with pytest.raises(StartRefusedError, match="start with --recover, and let the silos authorise a new key"):
        made.boot()
    recover(made)
    if kind == "log.closed":
        # Nobody has heard of the end yet, so that nobody holds the last model: it is asked for, and nothing else comes.
        assert recovered(made).model == model_of(made, 2)
        made.run(deadline=False)
        assert made.kinds()[-4:] == ["silo.admitted"] * 4
        passed(made)
        return
    assert recovered(made).model == model_of(made, rounds)
    report = run_to_the_end(made)
    assert report.counts.boots == 2
    assert any("was lost, and silos granted" in line for line in report.information)
    assert [entry.reason for entry in logged(made, RoundAbandoned)] == (["restart"] if kind != "silo.admitted" else [])


@pytest.mark.slow
def test_an_open_attempt_is_abandoned_and_controls_begin_anew() -> None:
    made = federation_of(3)
    made.run(until=lambda: reached("update.accepted", 1)(made))
    recover(made)
    kinds = made.kinds()
    start = kinds.index("log.recovered")
    assert kinds[start : start + 3] == ["log.recovered", "appliance.started", "round.abandoned"]
    run_to_the_end(made)
    opened = [(entry.round, entry.attempt, entry.control_epoch) for entry in logged(made, RoundOpened)]
    assert opened == [(1, 1, 0), (2, 1, 0), (2, 2, 1), (3, 1, 1)]
    assert logged(made, RoundOpened)[2].control is None


class TestTheModel:
    def lost_in_round(self, number: int) -> MemoryFederation:
        made = federation_of(4)
        made.run(until=lambda: reached("update.accepted", number - 1, times=3)(made))
        return made

    def test_the_newest_that_one_of_those_who_authorise_holds(self) -> None:
        """One holds none, and one, to whom the round was not announced yet, an older one."""
        made = self.lost_in_round(3)
        forget(made, "silo-0")
        assert model_of(made, 1) in made.kept("silo-3").held()
        recover(made)
        assert recovered(made).model == model_of(made, 2)
        run_to_the_end(made)

    @pytest.mark.slow
    def test_a_silo_that_did_not_authorise_does_not_count(self) -> None:
        made = self.lost_in_round(3)
        for name in QUORUM:
            forget(made, name)
        recover(made)
        assert recovered(made).model == model_of(made, 0)
        run_to_the_end(made)

    def test_nobody_holds_any(self) -> None:
        """Training begins again from the initial model; the numbers of the rounds go on."""
        made = self.lost_in_round(3)
        for terms in made.agreement.silos:
            forget(made, terms.name)
        recover(made)
        assert recovered(made).model == made.agreement.model.initial
        run_to_the_end(made)
        assert [(entry.round, entry.attempt) for entry in logged(made, RoundOpened)][2:4] == [(3, 1), (3, 2)]

    def test_a_model_that_was_never_published_is_not_taken_up(self) -> None:
        made = self.lost_in_round(2)
        for name in QUORUM:
            kept = made.kept(name)
            initial = kept.find(made.agreement.model.initial)
            assert initial is not None
            other = {section: values + 1 for section, values in initial.items()}
            kept.keep(content_of(made.layout, other), other)
            assert len(kept.held()) == 2
        lose(made.store)
        made.recover()
        made.authorise(*QUORUM)
        assert recovered(made).model == made.agreement.model.initial

    def test_the_final_one_comes_back_for_those_who_missed_the_end(self) -> None:
        made = federation_of(2)
        made.run(until=lambda: any(silo.finished for silo in made.silos.values()))
        assert not all(silo.finished for silo in made.silos.values())
        finished = [silo.name for silo in made.silos.values() if silo.finished]
        assert set(finished) & set(QUORUM)
        recover(made)
        (closed,) = logged(made, LogClosed)
        assert recovered(made).model == closed.model
        run_to_the_end(made)

    @pytest.mark.slow
    def test_it_is_asked_for_again_after_another_start(self) -> None:
        made = self.lost_in_round(3)
        recover(made)
        made.boot()
        come_back(made)
        run_to_the_end(made)
        assert made.kinds().count("log.recovered") == 1


def test_a_successor_goes_on_from_a_log_that_was_recovered() -> None:
    """From the model that the recovery has taken up, and not from one that was published before and is lost."""
    made = federation_of(3)
    made.run(until=lambda: reached("round.published", 2)(made))
    for name in QUORUM:
        forget(made, name)
    recover(made)
    standing = read_standing(LogFiles(made.store), made.agreement)
    assert (standing.rounds, standing.model) == (2, made.agreement.model.initial)


class Forgetful(SimulatedPlatform):
    """A machine that keeps no secret."""

    def sealing_key(self) -> bytes:
        raise NoSealingKey("Forgetful: no secret outlives a restart")


def test_without_a_sealing_key_every_start_is_a_recovery() -> None:
    made = federation_of(3, platform=Forgetful)
    for number in (1, 2):
        made.run(until=lambda: reached("round.opened", number)(made))  # noqa: B023
        with pytest.raises(StartRefusedError, match="To go on, start with --recover, and let the silos authorise"):
            made.boot()
        made.recover()
        made.authorise(*QUORUM)
        come_back(made)
    report = run_to_the_end(made)
    assert report.counts.boots == 3
    assert made.kinds().count("log.recovered") == 2


def test_another_machine_with_the_log_alone() -> None:
    """Bodies, spool and state are gone; the log is public, and a copy of it is enough."""
    made = federation_of(3)
    made.run(until=lambda: reached("update.accepted", 1)(made))
    for name in made.store.list(""):
        if not name.startswith("log/"):
            made.store.delete(name)
    made.recover()
    made.authorise(*QUORUM)
    come_back(made)
    run_to_the_end(made)


@pytest.mark.slow
def test_a_body_that_is_lost_with_the_state_at_hand() -> None:
    made = federation_of(3)
    made.run(until=lambda: reached("update.accepted", 1)(made))
    for name in made.store.list("models/"):
        made.store.delete(name)
    with pytest.raises(StartRefusedError, match="missing from the store.*--recover"):
        made.boot()
    recover(made)
    run_to_the_end(made)


def test_where_nothing_is_lost_nobody_is_asked() -> None:
    made = federation_of(2)
    made.run(until=lambda: reached("update.accepted")(made))
    assert isinstance(made.recover(), Enclave)
    assert made.events[-1] == "recovery-not-needed"
    with pytest.raises(RefusedError, match="not-recovering: expected an appliance that has lost the log's key"):
        made.asks("silo-0")
    come_back(made)
    run_to_the_end(made)
    assert "log.recovered" not in made.kinds()


def test_without_a_log_there_is_nothing_to_recover() -> None:
    made = federation_of(2)
    with pytest.raises(StartRefusedError, match="expected a store that holds the log whose key is lost"):
        made.recover(store=MemoryStore())


@pytest.mark.slow
def test_a_silo_that_was_away_follows_over_two_recoveries_and_authorises_the_third() -> None:
    made = federation_of(4)
    made.run(until=lambda: reached("update.accepted", 1)(made))
    away = made.silos.pop("silo-2")
    for number in (2, 3):
        lose(made.store)
        made.recover()
        made.authorise(*QUORUM)
        for name in QUORUM:
            made.enrol(made.silo(name))
        made.run(until=lambda: reached("round.opened", number)(made), deadline=True)  # noqa: B023
    lose(made.store)
    made.recover()
    made.authorise("silo-0", away.name, "silo-3")
    come_back(made)
    report = run_to_the_end(made)
    assert made.kinds().count("log.recovered") == 3
    assert report.counts.boots == 4


def test_two_recoveries_from_copies_of_one_store_do_not_both_get_on() -> None:
    """Silos may give both their leave: to get on takes a quorum's cosignatures, and no silo cosigns two histories."""
    made = federation_of(3)
    made.run(until=lambda: reached("update.accepted", 1)(made))
    lose(made.store)
    here, there = made.store, copy_of(made.store)
    made.recover()
    made.authorise(*QUORUM)
    one = made.enclave
    made.store = there
    made.recover()
    made.authorise("silo-0", "silo-1", "silo-2")
    other = made.enclave
    # Each is followed by two of them, and neither gets any further: it takes three.
    for enclave, store, names in ((one, here, ("silo-0", "silo-1")), (other, there, ("silo-2", "silo-3"))):
        made.enclave, made.store, made.silos = enclave, store, {}
        for name in names:
            made.enrol(made.silo(name))
        made.run()
        assert made.kinds().count("round.published") == 1
        assert "round.opened" not in made.kinds()[made.kinds().index("log.recovered") :]
    made.enclave, made.store = one, here
    with pytest.raises(RefusedError) as refused:
        made.enrol(made.silo("silo-2"))
    assert refused.value.refusal.code in (RefusalCode.OTHER_LOG, RefusalCode.LOG_ROLLED_BACK)
    made.enclave, made.store = other, there
    for name in ("silo-0", "silo-1"):
        with pytest.raises(RefusedError):
            made.enrol(made.silo(name))


@pytest.mark.slow
def test_the_former_machine_is_left_behind_once_silos_have_followed() -> None:
    """It was not lost after all: its enclave runs on, and nobody cosigns for it any more."""
    made = federation_of(3)
    made.run(until=lambda: reached("update.accepted", 1)(made))
    former, here = made.enclave, made.store
    made.store = copy_of(here)
    recover(made)
    run_to_the_end(made)
    made.enclave, made.store = former, here
    with pytest.raises(RefusedError, match="it signed with a key that was retired at entry"):
        made.enrol(made.silo("silo-0"))


def test_an_older_store_is_not_recovered() -> None:
    """Losing a key is no way to roll the log back."""
    made = federation_of(3)
    made.run(until=lambda: reached("round.opened")(made))
    older = copy_of(made.store)
    made.run(until=lambda: reached("update.accepted", 1)(made))
    made.store = older
    lose(made.store)
    made.recover()
    for name in QUORUM:
        with pytest.raises(RefusedError, match="log-rolled-back: expected silos that know at most"):
            made.authorise(name)
    assert made.kinds()[-1] != "log.recovered"


class Failing(SimulatedPlatform):
    """Makes no evidence while `failing`."""

    failing = False

    def evidence(self, report_data: bytes) -> Evidence:
        if Failing.failing:
            raise CollectError("the TEE is busy")
        return super().evidence(report_data)


@pytest.mark.slow
def test_a_tee_that_makes_no_evidence_at_that_moment() -> None:
    made = federation_of(2, platform=Failing)
    made.run(until=lambda: reached("update.accepted")(made))
    lose(made.store)
    made.recover()
    made.authorise(*QUORUM[:2])
    dialog, _ = made.asks(QUORUM[2])
    grant = dialog.grant()
    Failing.failing = True
    try:
        with pytest.raises(RefusedError, match="busy: expected fresh evidence"):
            made.enclave.enrol(grant)
    finally:
        Failing.failing = False
    assert "log.recovered" not in made.kinds()
    assert dialog.stands(made.enclave.enrol(grant)).recovered is not None
    come_back(made)
    run_to_the_end(made)


def test_while_it_waits_it_is_asked_for_nothing_else() -> None:
    made = federation_of(2)
    made.run(until=lambda: reached("update.accepted")(made))
    lose(made.store)
    enclave = made.recover()
    assert isinstance(enclave, Recovering)
    described = enclave.describe()
    assert (described.phase, described.admitted, described.log_size) == ("recovering", (), len(made.kinds()))
    silo = made.silo("silo-0")
    for call in (
        lambda: enclave.hello(silo.machine.hello()),
        lambda: enclave.enrol(bytes(100)),
        lambda: enclave.receive("silo-0", silo.machine.join()),
        lambda: enclave.complete("silo-0", silo.machine.state.open_pending()),
    ):
        with pytest.raises(RefusedError, match="busy: expected an appliance with the log's key.*silo recover"):
            call()
    enclave.left("silo-0")
    enclave.tick()
    assert enclave.next_due() is None
    passed(made)
