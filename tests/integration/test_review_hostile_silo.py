"""A named, admitted silo that means harm: it may be refused, and costs nobody else anything."""

from dataclasses import replace

import pytest
from memory_federation import MEASUREMENT, MemoryFederation, initial_sections
from odd_certificates import SUBJECT_ALTERNATIVE_NAME, X400_ADDRESS, certificate_named

from attestation import Evidence
from attestation.collect.platform import SimulatedPlatform
from protocol.errors import RefusalCode, RefusedError
from protocol.sealing import MemoryBytes
from protocol.sealing.bytes_io import read
from protocol.session import WantInitial, parse_to_silo
from silo_client.bodies import seal_initial


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


# The initial model


def until_asked(federation: MemoryFederation) -> str:
    """Enrol everybody and run until somebody is asked for the initial model; returns who."""
    federation.enrol_all()
    federation.enclave.tick()
    name, message = federation.outbox.popleft()
    assert isinstance(parse_to_silo(message), WantInitial)
    return name


def sealed_initial(federation: MemoryFederation, name: str) -> MemoryBytes:
    """The initial model as this silo seals it."""
    silo = federation.silos[name]
    enrolled, state = silo.machine.enrolled, silo.machine.state
    _, stored = seal_initial(
        initial_sections(federation.layout),
        boot_id=enrolled.boot_id,
        recipient=enrolled.keys.sealing_key,
        state=state,
        form=silo.form,
    )
    source = state.files.open(state.path(stored))
    return MemoryBytes(read(source, 0, source.size()))


def test_a_second_initial_model_does_not_take_the_place_of_the_first() -> None:
    """Both were begun before either was judged. The announced body must stay what it is, or no silo can read it."""
    federation = federation_of(1)
    until_asked(federation)
    first, second = sealed_initial(federation, "silo-0"), sealed_initial(federation, "silo-1")
    begin = federation.enclave._uploads.begin

    def begun(*arguments: object) -> object:
        federation.enclave._uploads.begin = begin  # type: ignore[method-assign]
        task = begin(*arguments)  # type: ignore[arg-type]
        federation.enclave.complete("silo-0", first)
        return task

    federation.enclave._uploads.begin = begun  # type: ignore[method-assign,assignment]
    federation.enclave.complete("silo-1", second)
    federation.run()
    assert all(silo.finished and not silo.errors for silo in federation.silos.values())


def test_a_silo_that_keeps_the_initial_model_to_itself_is_passed_over() -> None:
    federation = federation_of(1)
    asked = until_asked(federation)
    send = federation.send_initial
    federation.send_initial = lambda silo, content: None if silo.name == asked else send(silo, content)  # type: ignore[method-assign]
    federation.run()
    assert all(silo.finished for silo in federation.silos.values())


def test_a_silo_that_sends_another_initial_model_is_passed_over_at_once() -> None:
    federation = federation_of(1)
    asked = until_asked(federation)
    began = federation.now
    blob = bytearray(bytes(sealed_initial(federation, asked)))
    blob[-1] ^= 1
    with pytest.raises(RefusedError):
        federation.enclave.complete(asked, MemoryBytes(bytes(blob)))
    federation.run(deadline=False)
    assert all(silo.finished for silo in federation.silos.values())
    assert federation.now == began
