"""The transition table takes what an honest enclave may log, and nothing that it never does."""

from dataclasses import replace

import pytest
from audit_history import Recorder, agreement_of

from audit.divergence import DivergenceError
from audit.phases import CHANGED_AFTER_ADMISSION


def collecting(strategy: str = "scaffold") -> Recorder:
    """A history in which the first attempt collects updates of silo-0 to silo-2."""
    recorder = Recorder(agreement_of(lambda text: text.replace('strategy = "scaffold"', f'strategy = "{strategy}"')))
    recorder.batch(recorder.genesis(), recorder.started())
    for silo in ("silo-0", "silo-1", "silo-2"):
        recorder.batch(recorder.admitted(silo))
    recorder.batch(recorder.opened())
    return recorder


@pytest.mark.parametrize(
    "code", ["update-corrupt", "update-steps", "update-not-finite", "update-too-large", "wrong-parent"]
)
def test_reasons_that_are_held_against_a_silo(code: str) -> None:
    recorder = collecting()
    recorder.batch(recorder.update_refused("silo-1", code))
    assert recorder.history.refused["silo-1"].code == code


@pytest.mark.parametrize("code", ["update-signature", "wrong-round", "already-complete", "busy", "because"])
def test_reasons_that_are_not(code: str) -> None:
    recorder = collecting()
    with pytest.raises(DivergenceError, match=f"code: {code} is no reason to refuse an update for"):
        recorder.batch(recorder.update_refused("silo-1", code))


def test_a_parent_is_none_without_control_variates() -> None:
    recorder = collecting("fedavg")
    with pytest.raises(DivergenceError, match="code: wrong-parent is no reason"):
        recorder.batch(recorder.update_refused("silo-1", "wrong-parent"))


def test_a_barred_silos_update_is_not_judged_at_all() -> None:
    recorder = collecting()
    for silo in ("silo-0", "silo-1", "silo-2"):
        recorder.batch(recorder.accepted(silo))
    recorder.batch(recorder.committed())
    recorder.batch(replace(recorder.abandoned(CHANGED_AFTER_ADMISSION), silo="silo-1"))
    recorder.batch(recorder.opened())
    with pytest.raises(DivergenceError, match="silo-1 is barred"):
        recorder.batch(recorder.update_refused("silo-1", "update-steps"))
