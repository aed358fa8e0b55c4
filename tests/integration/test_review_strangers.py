"""What strangers send is opened beside everything else: nobody whom the agreement names has to wait for it."""

import threading

import pytest
from memory_federation import MEASUREMENT, MemoryFederation

from appliance.enclave import admission
from attestation import Evidence
from attestation.collect.platform import SimulatedPlatform
from protocol.enrolment import ENROL_SEAL_LABEL
from protocol.errors import RefusedError

PATIENCE_SECONDS = 10


def others_are_served(federation: MemoryFederation) -> bool:
    """Whether another thread gets an answer of the enclave now."""
    other = threading.Thread(target=federation.enclave.describe, daemon=True)
    other.start()
    other.join(PATIENCE_SECONDS)
    return not other.is_alive()


def test_while_a_sealed_request_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = MemoryFederation()
    boot_id = federation.enclave.describe().boot_id
    sealed = boot_id + federation.enclave._boot.keys.sealing_key.seal(bytes(100), ENROL_SEAL_LABEL, boot_id)
    served, parse = [], admission.parse_enrolment

    def parsed(*arguments: object) -> object:
        served.append(others_are_served(federation))
        return parse(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(admission, "parse_enrolment", parsed)
    with pytest.raises(RefusedError):
        federation.enclave.enrol(sealed)
    assert served == [True]


def test_while_evidence_is_made_for_a_hello() -> None:
    """A recorded hello can be sent again by anybody, and a report takes a while."""
    federation = MemoryFederation()
    hello = federation.silo("silo-0").machine.hello()
    served = []

    class Slow(SimulatedPlatform):
        def evidence(self, report_data: bytes) -> Evidence:
            served.append(others_are_served(federation))
            return super().evidence(report_data)

    object.__setattr__(federation.enclave._boot, "platform", Slow(MEASUREMENT))
    federation.enclave.hello(hello)
    assert served == [True]
