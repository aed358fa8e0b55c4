"""`key.rotated` and `log.recovered` in the transition table: where they may stand, what must follow, what they do."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from audit_history import Boot, Recorder, agreement_of, token

from audit.entries import KeyRotated, LogRecovered, parse_entry
from audit.phases import BELOW_MINIMUM_COHORT, RESTART, Phase
from audit.replay import DivergenceError

AGREEMENT = agreement_of()
NEXT = Boot("next", log="log 2")
Change = Callable[[Recorder], KeyRotated | LogRecovered]


def rotated(recorder: Recorder) -> KeyRotated:
    return recorder.rotated(NEXT)


def recovered(recorder: Recorder) -> LogRecovered:
    return recorder.recovered(NEXT, root=token("root"), grants=b"grants")


BOTH = pytest.mark.parametrize("change", [rotated, recovered])


def idle() -> Recorder:
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    return recorder


def collecting() -> Recorder:
    recorder = idle()
    for silo in ("silo-0", "silo-1", "silo-2"):
        recorder.batch(recorder.admitted(silo))
    recorder.batch(recorder.opened())
    return recorder


def committed() -> Recorder:
    recorder = collecting()
    for silo in ("silo-0", "silo-1", "silo-2"):
        recorder.batch(recorder.accepted(silo))
    recorder.batch(recorder.committed())
    return recorder


def published() -> Recorder:
    recorder = committed()
    recorder.batch(recorder.published())
    return recorder


def interrupted() -> Recorder:
    recorder = collecting()
    recorder.boot = Boot("A2")
    recorder.batch(recorder.started())
    return recorder


def closed() -> Recorder:
    recorder = Recorder(AGREEMENT)
    recorder.record()
    return recorder


def apply_start(recorder: Recorder, entry: KeyRotated | LogRecovered) -> None:
    recorder.history.apply(entry)
    recorder.history.apply(recorder.started())


class TestWhereTheyStand:
    @BOTH
    @pytest.mark.parametrize(
        ("before", "phase"),
        [
            (idle, Phase.IDLE),
            (collecting, Phase.INTERRUPTED),
            (committed, Phase.INTERRUPTED),
            (interrupted, Phase.INTERRUPTED),
        ],
    )
    def test_wherever_a_boot_may(self, before: Callable[[], Recorder], phase: Phase, change: Change) -> None:
        recorder = before()
        apply_start(recorder, change(recorder))
        history = recorder.history
        assert history.phase is phase
        assert history.log_key == NEXT.keys.log
        assert history.key_changes[0][0] == history.size - 2
        if phase is Phase.INTERRUPTED:
            history.apply(recorder.abandoned(RESTART))
            assert history.phase is Phase.IDLE

    @BOTH
    def test_after_the_end(self, change: Change) -> None:
        recorder = closed()
        apply_start(recorder, change(recorder))
        assert recorder.history.phase is Phase.CLOSED

    @BOTH
    def test_not_before_the_first_boot(self, change: Change) -> None:
        recorder = Recorder(AGREEMENT)
        recorder.history.apply(recorder.genesis())
        with pytest.raises(DivergenceError, match="may not follow in phase created"):
            recorder.history.apply(change(recorder))

    @BOTH
    def test_nothing_but_the_boot_follows_one(self, change: Change) -> None:
        recorder = idle()
        entry = change(recorder)
        recorder.history.apply(entry)
        for other in (recorder.admitted("silo-0"), recorder.opened(), entry):
            with pytest.raises(DivergenceError, match="may not follow in phase rekeyed"):
                recorder.history.apply(other)

    @BOTH
    def test_the_boot_that_follows_has_its_id_and_its_keys(self, change: Change) -> None:
        recorder = idle()
        entry = change(recorder)
        recorder.history.apply(entry)
        started = recorder.started()
        with pytest.raises(DivergenceError, match=f"boot id of the {entry.KIND} before it"):
            recorder.history.apply(replace(started, boot_id=token("another")))
        with pytest.raises(DivergenceError, match=f"keys of the {entry.KIND} before it"):
            recorder.history.apply(replace(started, keys=replace(started.keys, signing=token("another"))))
        recorder.history.apply(started)

    @BOTH
    def test_parsed_again_they_are_the_same(self, change: Change) -> None:
        entry = change(idle())
        assert parse_entry(entry.encode()) == entry


class TestWhatTheyMustSay:
    @BOTH
    def test_the_key_before(self, change: Change) -> None:
        recorder = idle()
        with pytest.raises(DivergenceError, match="previous log key: expected"):
            recorder.history.apply(replace(change(recorder), previous=token("another")))

    @BOTH
    def test_this_agreement(self, change: Change) -> None:
        recorder = idle()
        with pytest.raises(DivergenceError, match="agreement: expected"):
            recorder.history.apply(replace(change(recorder), agreement=token("another")))

    @BOTH
    def test_a_boot_of_its_own(self, change: Change) -> None:
        recorder = idle()
        boot_id = recorder.boot.boot_id
        with pytest.raises(DivergenceError, match="boot id: expected a new one"):
            recorder.history.apply(replace(change(recorder), boot_id=boot_id))

    @BOTH
    @pytest.mark.parametrize("since", ["still in force", "retired"])
    def test_a_key_that_never_was_in_force(self, since: str, change: Change) -> None:
        recorder = idle()
        first = recorder.boot.keys.log
        if since == "retired":
            apply_start(recorder, recorder.rotated(Boot("B2", log="log 3")))
        entry = replace(change(recorder), keys=replace(NEXT.keys, log=first))
        with pytest.raises(DivergenceError, match="log key: expected a new one, found one used before"):
            recorder.history.apply(entry)

    def test_a_retired_key_starts_no_boot(self) -> None:
        recorder = idle()
        apply_start(recorder, rotated(recorder))
        recorder.boot = Boot("C")
        with pytest.raises(DivergenceError, match="log key: expected"):
            recorder.history.apply(recorder.started())
        recorder.boot = Boot("C", log="log 2")
        recorder.history.apply(recorder.started())

    def test_a_base_that_ends_where_it_stands(self) -> None:
        recorder = idle()
        entry = recovered(recorder)
        with pytest.raises(DivergenceError, match=r"size \(this entry's index\): expected 2, found 1"):
            recorder.history.apply(replace(entry, size=1))

    def test_a_model_that_was_published(self) -> None:
        recorder = published()
        entry = recovered(recorder)
        with pytest.raises(DivergenceError, match="model: expected the initial model or one that was published"):
            recorder.history.apply(replace(entry, model=token("model 7")))

    def test_after_the_end_the_final_model(self) -> None:
        recorder = closed()
        entry = replace(recovered(recorder), model=AGREEMENT.model.initial)
        with pytest.raises(DivergenceError, match="model of the log's end"):
            recorder.history.apply(entry)


class TestWhatTheyDo:
    def test_a_rotation_changes_nothing_but_key_and_state(self) -> None:
        recorder = published()
        history = recorder.history
        before = history.model, history.control, history.control_epoch, dict(history.parents), history.round
        apply_start(recorder, rotated(recorder))
        assert (history.model, history.control, history.control_epoch, history.parents, history.round) == before
        assert history.state == token("state of log 2")
        assert history.admitted == {}

    @pytest.mark.parametrize("model", [token("model 1"), AGREEMENT.model.initial])
    def test_a_recovery_goes_on_from_its_model_without_controls(self, model: bytes) -> None:
        recorder = published()
        apply_start(recorder, recorder.recovered(NEXT, root=token("root"), grants=b"grants", model=model))
        history = recorder.history
        assert (history.model, history.control, history.control_epoch, history.parents) == (model, None, 1, {})
        assert (history.published_rounds, history.round) == (1, 2)
        recorder.batch(recorder.opened())

    def test_after_a_recovery_a_number_is_still_published_once(self) -> None:
        recorder = published()
        apply_start(recorder, recovered(recorder))
        with pytest.raises(DivergenceError, match="round and attempt"):
            recorder.history.apply(replace(recorder.opened(), round=1))

    def test_a_recovery_settles_a_reset_that_was_due(self) -> None:
        recorder = collecting()
        recorder.batch(recorder.accepted("silo-0"), recorder.update_refused("silo-1", "wrong-parent"))
        recorder.batch(recorder.abandoned(BELOW_MINIMUM_COHORT))
        assert recorder.history.reset_due == "silo-1"
        apply_start(recorder, recovered(recorder))
        recorder.batch(recorder.opened())
