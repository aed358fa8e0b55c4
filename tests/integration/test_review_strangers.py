"""What strangers send is opened beside everything else: nobody whom the agreement names has to wait for it."""

import threading

import pytest
from memory_federation import MEASUREMENT, MemoryFederation, signing_key

from appliance.enclave import admission
from attestation import Evidence
from attestation.collect.platform import SimulatedPlatform
from protocol.enrolment import ENROL_LABEL, ENROL_SEAL_LABEL, parse_enrolment
from protocol.errors import MalformedError, RefusalCode, RefusedError
from protocol.session import parse_from_silo
from protocol.signed import sign_message

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


def test_a_strangers_request_is_not_parsed() -> None:
    """A quarter of a megabyte of JSON keeps a processor busy for half a second; a signature, for no time at all."""
    federation = MemoryFederation()
    boot_id = federation.enclave.describe().boot_id
    body = b'{"a":[' + b'"",' * 80_000 + b'""],"silo":"silo-0","version":1}'
    signed = bytes(64) + body
    sealed = boot_id + federation.enclave._boot.keys.sealing_key.seal(signed, ENROL_SEAL_LABEL, boot_id)
    with pytest.raises(RefusedError) as refused:
        federation.enclave.enrol(sealed)
    assert refused.value.refusal.code is RefusalCode.IDENTITY_SIGNATURE


def test_a_request_is_by_whom_it_says_at_its_end_and_in_its_fields() -> None:
    identity = signing_key("silo-0")
    body = b'{"silo":"silo-1","silo":"silo-0","version":1}'
    with pytest.raises(MalformedError):
        parse_enrolment(sign_message(identity, ENROL_LABEL, body), {"silo-0": identity.public})


@pytest.mark.parametrize("kind", ["join", "cosigned", "declined"])
def test_a_silos_message_is_short(kind: str) -> None:
    message = b'{"kind":"' + kind.encode() + b'","padding":"' + b"x" * 4096 + b'","version":1}'
    with pytest.raises(MalformedError, match="expected at most 4096 bytes"):
        parse_from_silo(message)
