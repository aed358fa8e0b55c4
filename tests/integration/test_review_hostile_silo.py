"""A named, admitted silo that means harm: it may be refused, and costs nobody else anything."""

from dataclasses import replace

import pytest
from memory_federation import MEASUREMENT, MemoryFederation
from odd_certificates import SUBJECT_ALTERNATIVE_NAME, X400_ADDRESS, certificate_named

from attestation import Evidence
from attestation.collect.platform import SimulatedPlatform
from protocol.errors import RefusalCode, RefusedError


def federation_of(rounds: int, **arguments: object) -> MemoryFederation:
    return MemoryFederation(replace={"rounds = 40": f"rounds = {rounds}"}, **arguments)  # type: ignore[arg-type]


class OddEndorsement(SimulatedPlatform):
    """Good evidence, and beside it a certificate that no library reads to its end."""

    def evidence(self, report_data: bytes) -> Evidence:
        evidence = super().evidence(report_data)
        odd = certificate_named(SUBJECT_ALTERNATIVE_NAME, X400_ADDRESS)
        return replace(evidence, endorsements=(*evidence.endorsements, odd))


def test_evidence_with_an_unreadable_certificate_is_refused_and_logged() -> None:
    """Anything but a refusal ends the enclave's process: this silo could do so again after every start."""
    federation = federation_of(1)
    silo = federation.silo("silo-0")
    silo.machine._party = replace(silo.machine._party, platform=OddEndorsement(MEASUREMENT))
    request = silo.machine.welcome(federation.enclave.hello(silo.machine.hello()))
    with pytest.raises(RefusedError) as refused:
        federation.enclave.enrol(request)
    assert refused.value.refusal.code is RefusalCode.EVIDENCE_MALFORMED
    assert federation.kinds()[-1] == "silo.refused"
