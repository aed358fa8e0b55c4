"""Enrolment requests that a test builds by hand for a real appliance, so that any part of them can be wrong."""

import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from memory_federation import signing_key
from process_federation import Ports, ProcessFederation
from silo_by_hand import HandSilo

from attestation.collect.platform import Platform
from attestation.report_data import report_data
from audit.entries import LogGenesis, SiloAdmitted
from protocol.credentials import CredentialKey, new_credential_key
from protocol.enrolment import ENROL_LABEL, HELLO_LABEL, Enrol, Hello, SiloKeys, Welcome, seal_enrolment
from protocol.keys import SEALING_SEED_BYTES, SealingKey
from protocol.signed import sign_message, unverified_body


class HandEnrolment:
    """One enrolment in the name of a silo: keys, the appliance's welcome, and what can be made of them."""

    def __init__(self, made: ProcessFederation, name: str, *, ports: Ports | None = None) -> None:
        self.made = made
        self.silo = HandSilo(made, name, ports=ports)
        self.name = name
        self.sealing = SealingKey(os.urandom(SEALING_SEED_BYTES))
        self.credential: CredentialKey = new_credential_key()
        self.keys = SiloKeys(
            identity=self.silo.identity.public.raw,
            sealing=self.sealing.public.raw,
            credential=self.credential.spki_der,
        )
        self.platform: Platform = self.silo.platform
        self.nonce = os.urandom(32)
        self.welcome = self.hello()

    def hello(self, *, key: str | None = None, **changes: object) -> Welcome:
        """Say `Hello` by this silo's identity key or another, with any field changed."""
        hello = Hello(silo=self.name, agreement=self.made.agreement.digest, nonce=self.nonce)
        hello = replace(hello, **changes)  # type: ignore[arg-type]
        message = sign_message(signing_key(key or self.name), HELLO_LABEL, hello.encode())
        return Welcome.parse(unverified_body(self.silo.channel.hello(message)))

    def request(self, **changes: object) -> Enrol:
        """A good request with fields changed, and evidence for what it then says unless that is given too."""
        enrol = Enrol(
            silo=self.name,
            agreement=self.made.agreement.digest,
            boot_id=self.welcome.boot_id,
            appliance=self.welcome.keys.signing,
            challenge=self.welcome.challenge,
            keys=self.keys,
            evidence=None,
        )
        enrol = replace(enrol, **changes)  # type: ignore[arg-type]
        return enrol if "evidence" in changes else replace(enrol, evidence=self.evidence(enrol.expected_report_data()))

    def with_evidence_for(self, **changes: object) -> Enrol:
        """A good request whose evidence is for one that differs in these fields."""
        return self.request(evidence=self.request(**changes).evidence)

    def with_evidence_over(self, keys: Mapping[str, bytes] | None = None, **terms: object) -> Enrol:
        """A good request whose evidence commits to other terms than a silo's enrolment."""
        honest = self.request(evidence=None)
        ours = {
            "identity": honest.keys.identity,
            "sealing": honest.keys.sealing,
            "credential": honest.keys.credential,
            "appliance-signing": honest.appliance,
        }
        committed = {
            "role": "silo",
            "purpose": "enrolment",
            "party": honest.silo,
            "agreement": honest.agreement,
            "boot_id": honest.boot_id,
            "nonce": honest.challenge,
            "keys": keys or ours,
            **terms,
        }
        return self.request(evidence=self.evidence(report_data(**committed)))  # type: ignore[arg-type]

    def evidence(self, committed: bytes) -> bytes:
        """Evidence over anything."""
        return self.platform.evidence(committed).encode()

    def sealed(self, enrol: Enrol, *, key: str | None = None) -> bytes:
        """Signed by this silo's identity key or another, and sealed to the appliance."""
        return seal_enrolment(enrol, signing_key(key or self.name), self.welcome.keys.sealing_key)

    def send(self, enrol: Enrol, *, key: str | None = None) -> bytes:
        """Ask to be admitted; raises what the appliance refuses."""
        return self.silo.channel.enrol(self.sealed(enrol, key=key))

    def digest(self, enrol: Enrol) -> bytes:
        """Of the signed request, as the log names it."""
        return sha256(sign_message(signing_key(self.name), ENROL_LABEL, enrol.encode())).digest()


def logged_object(made: ProcessFederation, digest: bytes) -> bytes:
    """An object beside the log."""
    return (made.store / "log" / "objects" / "sha256" / digest.hex()[:2] / digest.hex()).read_bytes()


def genesis_evidence(made: ProcessFederation) -> bytes:
    """The appliance's own evidence, which the log shows to everybody."""
    return logged_object(made, made.entries(LogGenesis)[0].evidence)


def admitted_evidence(made: ProcessFederation, name: str) -> bytes | None:
    """The evidence with which a silo was admitted, which the log shows to everybody."""
    entry = next(entry for entry in made.entries(SiloAdmitted) if entry.silo == name)
    return Enrol.parse(unverified_body(logged_object(made, entry.request))).evidence
