"""What the real enclave writes passes the audit, whatever befell it; what was done to its store does not."""

import os

import pytest
import torch
from memory_federation import MEASUREMENT, MemoryFederation, MemorySilo, gradient_descent, signing_key

from attestation.collect.platform import SimulatedPlatform
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict, Line
from audit.store import MemoryStore
from audit.verify import verify
from protocol.errors import RefusedError
from protocol.update import UpdateMetadata
from silo_client.machine import SiloMachine, Train
from silo_client.state import SiloState


def federation_of(rounds: int) -> MemoryFederation:
    return MemoryFederation(replace={"rounds = 40": f"rounds = {rounds}"})


def audit(federation: MemoryFederation) -> AuditReport:
    return verify(LogFiles(federation.store), federation.agreement)


def passed(federation: MemoryFederation) -> AuditReport:
    report = audit(federation)
    assert report.verdict is AuditVerdict.PASS, (report.divergence, report.missing)
    return report


def test_a_federation_that_ran_to_its_end() -> None:
    federation = federation_of(3)
    federation.enrol_all()
    federation.run()
    counts = passed(federation).counts
    assert (counts.admissions, counts.rounds_published, counts.updates_used) == (4, 3, 12)
    assert passed(federation).information == ()


@pytest.mark.parametrize("stage", ["round.opened", "update.accepted", "round.committed", "round.published"])
def test_a_restart(stage: str) -> None:
    federation = federation_of(2)
    federation.enrol_all()
    federation.run(until=lambda: stage in federation.kinds())
    passed(federation)
    federation.boot()
    passed(federation)
    federation.enrol_all()
    federation.run()
    report = passed(federation)
    assert report.counts.boots == 2
    assert report.counts.rounds_published == 2


def test_a_refused_silo_a_bad_update_and_a_lost_control_variate() -> None:
    federation = federation_of(4)
    federation.enrol_all()
    agreement = federation.agreement
    wrong_code = SiloMachine(
        agreement=agreement,
        silo="silo-1",
        identity=signing_key("silo-1"),
        platform=SimulatedPlatform(bytes(48)),
        state=SiloState.open(MemoryStore(), agreement=agreement.digest, silo="silo-1"),
        clock=lambda: federation.now,
        random=os.urandom,
    )
    with pytest.raises(RefusedError):
        federation.enclave.enrol(wrong_code.welcome(federation.enclave.hello(wrong_code.hello())))

    def too_large(
        silo: MemorySilo, step: Train, x: torch.Tensor, c: torch.Tensor, c_i: torch.Tensor
    ) -> tuple[torch.Tensor, UpdateMetadata]:
        update, metadata = gradient_descent(silo, step, x, c, c_i)
        return update * 1e6, metadata

    federation.silos["silo-3"].training = too_large
    federation.run(until=lambda: "round.published" in federation.kinds())
    federation.silo_stores["silo-2"] = MemoryStore()
    federation.enrol(federation.silo("silo-2"))
    federation.run()
    counts = passed(federation).counts
    assert counts.refusals == 1
    assert counts.updates_refused >= 2
    assert counts.control_resets == 1


def test_another_image_over_the_same_keys_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own build starts on a store of its own: its evidence says so from leaf 0 on."""
    federation = federation_of(1)
    # An honest build doesn't start where the agreement names another.
    monkeypatch.setattr("appliance.enclave.starter.appraise_appliance", lambda *_: None)
    federation.store = MemoryStore()
    federation.boot(measurement=bytes(48))
    report = audit(federation)
    assert report.verdict is AuditVerdict.FAIL
    assert report.divergence is not None
    assert (report.divergence.entry, report.divergence.line) == (0, Line.TRUST)
    assert MEASUREMENT.hex() in report.divergence.problem
