"""Every refusal of an enrolment, with the error that the silo's engineer reads, and what the log says about it."""

import os
from dataclasses import replace

import pytest
from memory_federation import MEASUREMENT, MemoryFederation, signing_key

from attestation.collect.platform import Platform, SimulatedPlatform
from attestation.evidence import Evidence
from attestation.tee import Tee
from audit.entries import SiloAdmitted, SiloRefused, parse_entry
from protocol.credentials import new_credential_key
from protocol.enrolment import Enrol, Hello, SiloKeys, Welcome, seal_enrolment
from protocol.errors import RefusedError
from protocol.keys import SEALING_SEED_BYTES, SealingKey
from protocol.signed import sign_message, unverified_body

DEBUG_POLICY = 0x30000 | 1 << 19


def entries(federation: MemoryFederation, kind: type) -> list:
    return [entry for _, data in federation.history() if isinstance(entry := parse_entry(data), kind)]


def hello(
    federation: MemoryFederation, *, silo: str = "silo-0", key: str | None = None, agreement: bytes | None = None
):
    body = Hello(silo=silo, agreement=agreement or federation.agreement.digest, nonce=os.urandom(32))
    message = sign_message(signing_key(key or silo), "strongroom/hello/v1", body.encode())
    return Welcome.parse(unverified_body(federation.enclave.hello(message)))


class Forger:
    """A silo that builds its request by hand, so that any part of it can be wrong."""

    def __init__(self, federation: MemoryFederation, silo: str = "silo-0") -> None:
        self.federation = federation
        self.silo = silo
        self.welcome = hello(federation, silo=silo)
        sealing = SealingKey(os.urandom(SEALING_SEED_BYTES))
        self.keys = SiloKeys(
            identity=signing_key(silo).public.raw,
            sealing=sealing.public.raw,
            credential=new_credential_key().spki_der,
        )
        self.platform: Platform = SimulatedPlatform(MEASUREMENT)

    def request(self, **changes: object) -> Enrol:
        enrol = Enrol(
            silo=self.silo,
            agreement=self.federation.agreement.digest,
            boot_id=self.welcome.boot_id,
            appliance=self.welcome.keys.signing,
            challenge=self.welcome.challenge,
            keys=self.keys,
            evidence=None,
        )
        enrol = replace(enrol, **changes)
        if "evidence" in changes:
            return enrol
        return replace(enrol, evidence=self.platform.evidence(enrol.expected_report_data()).encode())

    def send(self, enrol: Enrol, key: str | None = None) -> None:
        sealed = seal_enrolment(enrol, signing_key(key or self.silo), self.welcome.keys.sealing_key)
        self.federation.enclave.enrol(sealed)


@pytest.fixture
def federation() -> MemoryFederation:
    return MemoryFederation()


def test_an_honest_request_is_admitted_with_its_evidence_on_record(federation: MemoryFederation) -> None:
    forger = Forger(federation)
    forger.send(forger.request())
    (admitted,) = entries(federation, SiloAdmitted)
    assert (admitted.silo, admitted.owner, admitted.tee) == ("silo-0", "owner-0", "simulated")
    assert federation.store.exists(f"log/objects/sha256/{admitted.request.hex()[:2]}/{admitted.request.hex()}")


def test_a_silo_that_the_agreement_does_not_name(federation: MemoryFederation) -> None:
    with pytest.raises(RefusedError, match="unknown-silo: expected one of the agreement's silos, found 'mallory'"):
        hello(federation, silo="mallory")
    assert not entries(federation, SiloRefused), "strangers are counted, not logged"


def test_another_identity_key_under_a_silos_name(federation: MemoryFederation) -> None:
    with pytest.raises(RefusedError, match=r"identity-signature: expected a hello signed by silo-0's identity key"):
        hello(federation, silo="silo-0", key="mallory")
    forger = Forger(federation)
    with pytest.raises(RefusedError, match="identity-signature: expected a request signed by the silo's identity key"):
        forger.send(forger.request(), key="mallory")
    assert not entries(federation, SiloRefused)


def test_a_second_enrolment_with_another_identity_key(federation: MemoryFederation) -> None:
    forger = Forger(federation)
    forger.send(forger.request())
    again = Forger(federation)
    again.keys = replace(again.keys, identity=signing_key("mallory").public.raw)
    with pytest.raises(
        RefusedError, match="identity-signature: expected identity key ed25519:.*, found another identity"
    ):
        again.send(again.request())
    assert [entry.code for entry in entries(federation, SiloRefused)] == ["identity-signature"]


def test_another_agreement_shows_both_digests(federation: MemoryFederation) -> None:
    ours, theirs = federation.agreement.digest, b"\x42" * 32
    with pytest.raises(RefusedError, match="agreement-mismatch") as refused:
        hello(federation, agreement=theirs)
    assert ours.hex() in str(refused.value)
    assert theirs.hex() in str(refused.value)
    forger = Forger(federation)
    with pytest.raises(RefusedError, match="agreement-mismatch"):
        forger.send(forger.request(agreement=theirs))


def test_a_request_for_another_appliance_key_or_boot(federation: MemoryFederation) -> None:
    forger = Forger(federation)
    with pytest.raises(RefusedError, match="wrong-boot: expected a request for this boot"):
        forger.send(forger.request(appliance=b"\x07" * 32))
    with pytest.raises(RefusedError, match="wrong-boot"):
        forger.send(forger.request(boot_id=b"\x07" * 32))
    assert not entries(federation, SiloRefused)


def test_another_silos_challenge(federation: MemoryFederation) -> None:
    other = hello(federation, silo="silo-1")
    forger = Forger(federation)
    with pytest.raises(RefusedError, match="stale-nonce: expected a challenge: .*, found a foreign one"):
        forger.send(forger.request(challenge=other.challenge))


@pytest.mark.parametrize(
    ("platform", "code", "words"),
    [
        (SimulatedPlatform(bytes.fromhex("a5" * 48)), "evidence-refused", "measurement"),
        (SimulatedPlatform(MEASUREMENT, policy=DEBUG_POLICY), "evidence-refused", "DEBUG|policy"),
        (SimulatedPlatform(MEASUREMENT, vmpl=2), "evidence-refused", "vmpl"),
    ],
    ids=["measurement", "debug", "vmpl"],
)
def test_evidence_of_other_code(federation: MemoryFederation, platform: Platform, code: str, words: str) -> None:
    forger = Forger(federation)
    forger.platform = platform
    with pytest.raises(RefusedError, match=rf"(?i){code}: expected silo-0's evidence to be .*found .*({words})"):
        forger.send(forger.request())
    (refused,) = entries(federation, SiloRefused)
    assert (refused.silo, refused.code) == ("silo-0", code)
    assert federation.store.exists(f"log/objects/sha256/{refused.request.hex()[:2]}/{refused.request.hex()}")


@pytest.mark.parametrize("changed", ["silo", "agreement", "boot_id", "appliance", "challenge", "keys"])
def test_evidence_over_anything_else(federation: MemoryFederation, changed: str) -> None:
    forger = Forger(federation)
    honest = forger.request()
    values = {
        "silo": "silo-1",
        "agreement": b"\x01" * 32,
        "boot_id": b"\x01" * 32,
        "appliance": b"\x01" * 32,
        "challenge": b"\x01" * 32,
        "keys": replace(forger.keys, sealing=SealingKey(os.urandom(SEALING_SEED_BYTES)).public.raw),
    }
    other = replace(honest, **{changed: values[changed]})
    evidence = forger.platform.evidence(other.expected_report_data()).encode()
    with pytest.raises(RefusedError, match="(?i)evidence-refused: .*report.data"):
        forger.send(replace(honest, evidence=evidence))


def test_no_evidence_where_the_agreement_asks_for_some(federation: MemoryFederation) -> None:
    forger = Forger(federation)
    with pytest.raises(RefusedError, match="evidence-refused: expected evidence of simulated, found no evidence"):
        forger.send(forger.request(evidence=None))


def test_evidence_that_is_none(federation: MemoryFederation) -> None:
    forger = Forger(federation)
    with pytest.raises(RefusedError, match="evidence-malformed"):
        forger.send(forger.request(evidence=b"{}"))


def test_simulated_evidence_is_nothing_under_another_name(federation: MemoryFederation) -> None:
    forger = Forger(federation)
    honest = Evidence.parse(forger.request().evidence or b"")
    renamed = Evidence(tee=Tee.SEV_SNP, report=honest.report, endorsements=honest.endorsements)
    with pytest.raises(RefusedError, match="evidence-(refused|not-authentic)"):
        forger.send(forger.request(evidence=renamed.encode()))


def test_keys_that_are_none(federation: MemoryFederation) -> None:
    forger = Forger(federation)
    forger.keys = replace(forger.keys, credential=b"no key at all")
    with pytest.raises(RefusedError, match="malformed: expected usable keys"):
        forger.send(forger.request())
    forger = Forger(federation)
    forger.keys = replace(forger.keys, sealing=b"\xff" * 1216)
    with pytest.raises(RefusedError, match="malformed: expected usable keys"):
        forger.send(forger.request())


@pytest.mark.parametrize("message", [b"", b"x", b"\0" * 64, b"\0" * 4000, b"{}" * 40])
def test_bytes_that_are_no_message(federation: MemoryFederation, message: bytes) -> None:
    with pytest.raises(RefusedError):
        federation.enclave.hello(message)
    with pytest.raises(RefusedError):
        federation.enclave.enrol(message)


def test_a_silo_without_an_admission(federation: MemoryFederation) -> None:
    with pytest.raises(RefusedError, match="not-admitted: expected a silo admitted in this boot"):
        federation.enclave.receive("silo-0", federation.silo("silo-0").machine.join())


def test_a_silo_that_needs_no_evidence() -> None:
    federation = MemoryFederation(silo_tee="none")
    forger = Forger(federation)
    with pytest.raises(RefusedError, match="evidence-refused: expected no evidence, found simulated evidence"):
        forger.send(forger.request())
    forger = Forger(federation)
    forger.send(forger.request(evidence=None))
    assert entries(federation, SiloAdmitted)[0].tee == "none"
