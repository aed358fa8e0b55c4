"""The enrolments that a hostile silo or a stranger tries, each with the sentence that comes back.

`UNLOGGED`: anybody can send these in a silo's name. `LOGGED`: the silo has signed them for this very occasion
(docs/decisions/0005-refusals-logged.md).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc
import pytest
from enrolment_by_hand import HandEnrolment, admitted_evidence, genesis_evidence
from false_appliance import genuine
from memory_federation import signing_key
from process_federation import ProcessFederation, Running
from silo_by_hand import HandSilo

from attestation.collect.measurement import installed_code, measure
from attestation.collect.platform import SimulatedPlatform
from attestation.evidence import Evidence
from attestation.tee import Tee
from audit.entries import Entry
from protocol.credentials import new_credential_key
from protocol.enrolment import Enrol
from protocol.errors import RefusedError
from protocol.keys import SEALING_SEED_BYTES, SealingKey
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc

SILO, NEIGHBOUR = "silo-0", "silo-1"
OTHER_CODE = bytes.fromhex("a5" * 48)
DEBUG = 0x30000 | 1 << 19


@dataclass
class House:
    """A real appliance, and how it answers."""

    made: ProcessFederation
    appliance: Running

    def enrolment(self, name: str = SILO) -> HandEnrolment:
        """One that has got as far as the welcome."""
        return HandEnrolment(self.made, name)

    def silo(self, name: str = SILO) -> HandSilo:
        """One that has not begun."""
        return HandSilo(self.made, name)

    def restart(self) -> None:
        """Kill the enclave, and wait for the next boot."""
        told = len(self.appliance.events)
        self.made.kill_child("enclave")
        self.made.ready = self.appliance.wait_for("ready", since=told)

    def refused(self, act: Callable[[], object]) -> tuple[str, list[Entry]]:
        """The sentence of a refusal, and what was logged."""
        before = len(self.made.log())
        with pytest.raises(RefusedError) as caught:
            act()
        return str(caught.value), self.made.log()[before:]

    def joined(self) -> tuple[str, ...]:
        """The silos with a session, as `strongroom appliance status` asks for them."""
        with grpc.insecure_channel(f"unix:{self.made.store / 'run' / 'enclave.sock'}") as channel:
            stub = rpc.EnclaveStub(channel)  # type: ignore[no-untyped-call]
            return tuple(stub.Describe(pb.Empty()).joined)


# Strangers, and what anybody can send in a silo's name: answered, not logged

Attack = Callable[[HandEnrolment, House], object]


def replayed(enrolment: HandEnrolment, house: House) -> None:
    sealed = enrolment.sealed(enrolment.request())
    enrolment.silo.channel.enrol(sealed)
    HandSilo(house.made, NEIGHBOUR).channel.enrol(sealed)


def again(enrolment: HandEnrolment, house: House) -> None:
    enrolment.send(enrolment.request())
    enrolment.send(enrolment.request())


def prolonged(challenge: bytes) -> bytes:
    """Its expiry put off by an hour."""
    return (int.from_bytes(challenge[:8], "big") + 3600).to_bytes(8, "big") + challenge[8:]


STRANGER = "; check the silo's name, identity key file and agreement"
STALE = (
    "stale-nonce: expected a challenge: one that this boot of the appliance issued to this silo, found a foreign one"
)
BOOT = (
    "wrong-boot: expected a request for this boot of the appliance and its signing key, found one for another; enrol "
)
UNLOGGED: dict[str, tuple[Attack, str]] = {
    "a name that the agreement does not know": (
        lambda enrolment, house: enrolment.hello(silo="mallory", key="mallory"),
        "unknown-silo: expected one of the agreement's silos, found 'mallory'; only a successor agreement can add a",
    ),
    "such a name in the request": (
        lambda enrolment, house: enrolment.send(enrolment.request(silo="mallory"), key="mallory"),
        "unknown-silo: expected a silo that the agreement names, found 'mallory'" + STRANGER,
    ),
    "another identity key": (
        lambda enrolment, house: enrolment.hello(key="mallory"),
        f"identity-signature: expected a hello signed by silo-0's identity key {signing_key(SILO).public}, found "
        "another key's signature" + STRANGER,
    ),
    "its neighbour's identity key": (
        lambda enrolment, house: enrolment.hello(key=NEIGHBOUR),
        "identity-signature: expected a hello signed by silo-0's identity key ",
    ),
    "a request signed by another key": (
        lambda enrolment, house: enrolment.send(enrolment.request(), key="mallory"),
        "identity-signature: expected a request signed by the silo's identity key, found enrolment of silo-0: the sig",
    ),
    "another agreement": (
        lambda enrolment, house: enrolment.hello(agreement=b"\x0a" * 32),
        "agreement-mismatch: expected agreement sha256:",
    ),
    "a request for another boot": (
        lambda enrolment, house: enrolment.send(enrolment.request(boot_id=b"\x0a" * 32)),
        "wrong-boot: expected a request sealed to boot ",
    ),
    "a request for another key of the appliance": (
        lambda enrolment, house: enrolment.send(enrolment.request(appliance=b"\x0a" * 32)),
        BOOT,
    ),
    "its neighbour's challenge": (
        lambda enrolment, house: enrolment.send(
            enrolment.request(challenge=house.enrolment(NEIGHBOUR).welcome.challenge)
        ),
        STALE,
    ),
    "a challenge of its own making": (
        lambda enrolment, house: enrolment.send(enrolment.request(challenge=os.urandom(32))),
        STALE,
    ),
    "a challenge made to last": (
        lambda enrolment, house: enrolment.send(enrolment.request(challenge=prolonged(enrolment.welcome.challenge))),
        STALE,
    ),
    "noise in place of a request": (
        lambda enrolment, house: enrolment.silo.channel.enrol(enrolment.welcome.boot_id + os.urandom(2000)),
        "identity-signature: expected a request signed by the silo's identity key, found ",
    ),
    "nothing in place of a request": (
        lambda enrolment, house: enrolment.silo.channel.enrol(b""),
        "malformed: expected an enrolment request, found enrolment: expected over 32 bytes, found 0" + STRANGER,
    ),
    "nothing in place of a hello": (
        lambda enrolment, house: enrolment.silo.channel.hello(b""),
        "malformed: expected a hello, found signed message: expected over 64 bytes, found 0" + STRANGER,
    ),
}


# What a silo has signed for this occasion: logged, with its evidence


def guest(platform: SimulatedPlatform) -> Callable[[HandEnrolment], Enrol]:
    def make(enrolment: HandEnrolment) -> Enrol:
        enrolment.platform = platform
        return enrolment.request()

    return make


def renamed(enrolment: HandEnrolment) -> Enrol:
    found = Evidence.parse(enrolment.request().evidence or b"")
    return enrolment.request(evidence=replace(found, tee=Tee.SEV_SNP).encode())


def other_keys(enrolment: HandEnrolment, **keys: bytes) -> Enrol:
    return enrolment.with_evidence_for(keys=replace(enrolment.keys, **keys))


def flipped(enrolment: HandEnrolment) -> Enrol:
    found = Evidence.parse(enrolment.request().evidence or b"")
    report = found.report[:80] + bytes([found.report[80] ^ 1]) + found.report[81:]
    return enrolment.request(evidence=replace(found, report=report).encode())


def another_identity(enrolment: HandEnrolment) -> Enrol:
    enrolment.keys = replace(enrolment.keys, identity=signing_key("mallory").public.raw)
    return enrolment.request()


CODE = measure(installed_code())
EVIDENCE = "evidence-refused: expected silo-0's evidence to be what the agreement accepts, found "
OVER = EVIDENCE + "report_data: expected "
LOGGED: dict[str, tuple[Callable[[HandEnrolment], Enrol], str]] = {
    "another agreement inside the request": (
        lambda enrolment: enrolment.request(agreement=b"\x0a" * 32),
        "agreement-mismatch: expected agreement sha256:",
    ),
    "another identity key inside the request": (
        another_identity,
        f"identity-signature: expected identity key {signing_key(SILO).public}, found another identity key in the r",
    ),
    "a credential key that is none": (
        lambda enrolment: enrolment.request(keys=replace(enrolment.keys, credential=b"no key")),
        "malformed: expected usable keys, found ",
    ),
    "a sealing key that is none": (
        lambda enrolment: enrolment.request(keys=replace(enrolment.keys, sealing=b"\xff" * 1216)),
        "malformed: expected usable keys, found ",
    ),
    "no evidence": (
        lambda enrolment: enrolment.request(evidence=None),
        "evidence-refused: expected evidence of simulated, found no evidence; compare silo-0's TEE with its [[silo",
    ),
    "evidence that is none": (
        lambda enrolment: enrolment.request(evidence=b"{}"),
        "evidence-malformed: expected silo-0's evidence to be what the agreement accepts, found evidence: expected the",
    ),
    "evidence of other code": (
        guest(SimulatedPlatform(OTHER_CODE)),
        EVIDENCE + f"measurements: expected {CODE.hex()} (covers: code), found {OTHER_CODE.hex()}; "
        "compare silo-0's TEE with its [[silo",
    ),
    "evidence of a guest that may be debugged": (
        guest(SimulatedPlatform(CODE, policy=DEBUG)),
        EVIDENCE + "policy.debug: expected 0, found 1 in ",
    ),
    "evidence of a guest with permissions that were not agreed": (
        guest(SimulatedPlatform(CODE, policy=0x20000)),
        EVIDENCE + "policies: expected ",
    ),
    "evidence of another privilege level": (
        guest(SimulatedPlatform(CODE, vmpl=1)),
        EVIDENCE + "vmpl: expected 0, found 1",
    ),
    "evidence with a bit changed": (
        flipped,
        "evidence-not-authentic: expected silo-0's evidence to be what the agreem",
    ),
    "simulated evidence under a real name": (renamed, EVIDENCE + "tee: expected simulated, found sev-snp; compare"),
    "a genuine report of somebody else's machine": (
        lambda enrolment: enrolment.request(evidence=genuine().encode()),
        EVIDENCE + "tee: expected simulated, found sev-snp; compare",
    ),
    "a genuine report under a simulated name": (
        lambda enrolment: enrolment.request(evidence=replace(genuine(), tee=Tee.SIMULATED).encode()),
        "evidence-not-authentic: expected silo-0's evidence to be what the agreement accepts, found ",
    ),
    "evidence for another sealing key": (
        lambda enrolment: other_keys(enrolment, sealing=SealingKey(os.urandom(SEALING_SEED_BYTES)).public.raw),
        OVER,
    ),
    "evidence for another credential key": (
        lambda enrolment: other_keys(enrolment, credential=new_credential_key().spki_der),
        OVER,
    ),
    "evidence for another identity key": (
        lambda enrolment: other_keys(enrolment, identity=signing_key("mallory").public.raw),
        OVER,
    ),
    "evidence for another boot": (lambda enrolment: enrolment.with_evidence_for(boot_id=b"\x0a" * 32), OVER),
    "evidence for another appliance": (lambda enrolment: enrolment.with_evidence_for(appliance=b"\x0a" * 32), OVER),
    "evidence for another agreement": (lambda enrolment: enrolment.with_evidence_for(agreement=b"\x0a" * 32), OVER),
    "evidence over another nonce": (lambda enrolment: enrolment.with_evidence_for(challenge=b"\x0a" * 32), OVER),
    "evidence over its own nonce": (lambda enrolment: enrolment.with_evidence_for(challenge=enrolment.nonce), OVER),
    "evidence in its neighbour's name": (lambda enrolment: enrolment.with_evidence_for(silo=NEIGHBOUR), OVER),
    "evidence for a boot": (lambda enrolment: enrolment.with_evidence_over(purpose="boot"), OVER),
    "evidence for a genesis": (lambda enrolment: enrolment.with_evidence_over(purpose="genesis"), OVER),
    "evidence in an appliance's role": (lambda enrolment: enrolment.with_evidence_over(role="appliance"), OVER),
    "the appliance's genesis evidence": (
        lambda enrolment: enrolment.request(evidence=genesis_evidence(enrolment.made)),
        OVER,
    ),
    "the appliance's evidence in the welcome": (
        lambda enrolment: enrolment.request(evidence=enrolment.welcome.evidence),
        OVER,
    ),
    "its neighbour's evidence from the log": (
        lambda enrolment: enrolment.request(evidence=admitted_evidence(enrolment.made, NEIGHBOUR)),
        OVER,
    ),
    "its own evidence of an earlier enrolment": (
        lambda enrolment: enrolment.request(evidence=admitted_evidence(enrolment.made, SILO)),
        OVER,
    ),
}
