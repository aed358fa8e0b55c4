"""Enrolment: four messages, in the order in which they travel (both directions attest; see `docs/protocol.md`).

1. `Hello`     silo → appliance   signed with the identity key that the agreement names
2. `Welcome`   appliance → silo   evidence over the silo's nonce; signed with the key that the evidence vouches for
3. `Enrol`     silo → appliance   evidence over the appliance's nonce; signed by the identity key, sealed to it
4. `Admitted`  appliance → silo   a short-lived credential and the log's receipt

A refusal is raised as `RefusedError` and carried beside these, unsigned: it can deny service, as the network can
anyway, and nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from attestation.report_data import report_data, unattended_nonce
from protocol.errors import MalformedError
from protocol.keys import SealingKey, SealingPublicKey, SigningKey, VerifyingKey
from protocol.record import P256, Bytes, Count, Digest, Hybrid, Id32, Key32, Name, Note, Record, Text
from protocol.signed import open_message, sign_message, unverified_body

HELLO_LABEL = "strongroom/hello/v1"
WELCOME_LABEL = "strongroom/welcome/v1"
ENROL_LABEL = "strongroom/enrol/v1"
ADMITTED_LABEL = "strongroom/admitted/v1"
ENROL_SEAL_LABEL = "strongroom/enrol-seal/v1"
NONCE_BYTES = 32
# The last keys of a canonical `Enrol`.
_BY = re.compile(rb'"silo":"([a-z0-9-]{1,63})","version":1\}\Z')
_BY_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplianceKeys(Record):
    """The public keys that the appliance's evidence commits to, by role."""

    signing: Key32
    log: Key32
    sealing: Hybrid
    ca: P256

    def by_role(self) -> dict[str, bytes]:
        """Role → key bytes, as `report_data` takes them."""
        return {"signing": self.signing, "log": self.log, "sealing": self.sealing, "ca": self.ca}

    @property
    def signing_key(self) -> VerifyingKey:
        return VerifyingKey(self.signing)

    @property
    def log_key(self) -> VerifyingKey:
        return VerifyingKey(self.log)

    @property
    def sealing_key(self) -> SealingPublicKey:
        return SealingPublicKey(self.sealing)

    def report_data(self, *, purpose: str, origin: str, agreement: bytes, boot_id: bytes, nonce: bytes) -> bytes:
        """The 64 bytes that the appliance's evidence for these keys must carry. The party is the log's origin."""
        return report_data(
            role="appliance",
            purpose=purpose,
            party=origin,
            agreement=agreement,
            boot_id=boot_id,
            nonce=nonce,
            keys=self.by_role(),
        )

    def unattended_report_data(self, *, purpose: str, origin: str, agreement: bytes, boot_id: bytes) -> bytes:
        """The same for what is logged ("genesis", "boot", …): there is no verifier yet to choose a nonce."""
        nonce = unattended_nonce(agreement, boot_id)
        return self.report_data(purpose=purpose, origin=origin, agreement=agreement, boot_id=boot_id, nonce=nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Record, kind="hello", limit_bytes=4096):
    """The silo's nonce, name and agreement."""

    silo: Name
    agreement: Digest
    nonce: Id32


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Record, kind="welcome", limit_bytes=2**18):
    """The appliance's evidence over the silo's nonce, its keys, its own challenge and newest checkpoint."""

    agreement: Digest
    origin: Text
    boot_id: Id32
    keys: ApplianceKeys
    nonce: Id32
    evidence: Bytes
    challenge: Id32
    checkpoint: Note

    def expected_report_data(self, nonce: bytes) -> bytes:
        """What the evidence must carry if it answers `nonce`, the silo's own."""
        return self.keys.report_data(
            purpose="enrolment", origin=self.origin, agreement=self.agreement, boot_id=self.boot_id, nonce=nonce
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SiloKeys(Record):
    """The keys that a silo's evidence commits to; `credential` is a P-256 SubjectPublicKeyInfo (DER)."""

    identity: Key32
    sealing: Bytes
    credential: Bytes

    @property
    def sealing_key(self) -> SealingPublicKey:
        return SealingPublicKey(self.sealing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrol(Record, kind="enrol", limit_bytes=2**18):
    """The enrolment request. `evidence` is null where the agreement asks for none (`tee = "none"`)."""

    silo: Name
    agreement: Digest
    boot_id: Id32
    appliance: Key32
    challenge: Id32
    keys: SiloKeys
    evidence: Bytes | None

    def expected_report_data(self) -> bytes:
        """What the silo's evidence must carry: its keys, and the appliance's boot, key and challenge."""
        return report_data(
            role="silo",
            purpose="enrolment",
            party=self.silo,
            agreement=self.agreement,
            boot_id=self.boot_id,
            nonce=self.challenge,
            keys={
                "identity": self.keys.identity,
                "sealing": self.keys.sealing,
                "credential": self.keys.credential,
                "appliance-signing": self.appliance,
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted(Record, kind="admitted", limit_bytes=2**18):
    """The credential (X.509, DER), when the admission ends, and the receipt: a `tlog-proof` of `entry`."""

    silo: Name
    boot_id: Id32
    credential: Bytes
    expires: Count
    entry: Bytes
    receipt: Note


def seal_enrolment(enrol: Enrol, identity: SigningKey, appliance: SealingPublicKey) -> bytes:
    """Sign with the identity key, then seal to the appliance; the boot id is bound in clear context."""
    signed = sign_message(identity, ENROL_LABEL, enrol.encode())
    return enrol.boot_id + appliance.seal(signed, ENROL_SEAL_LABEL, enrol.boot_id)


def open_enrolment(sealed: bytes, boot_id: bytes, key: SealingKey) -> bytes:
    """The signed request. Raises `MalformedError` (too short), `SignatureError` (sealed to another key or boot)."""
    if len(sealed) <= NONCE_BYTES:
        raise MalformedError(f"enrolment: expected over {NONCE_BYTES} bytes, found {len(sealed)}")
    return key.open(sealed[NONCE_BYTES:], ENROL_SEAL_LABEL, boot_id)


def parse_enrolment(signed: bytes, identities: Mapping[str, VerifyingKey]) -> Enrol:
    """The request, once signed by the identity that the agreement names for it: a stranger's is not worth parsing.

    Raises `MalformedError`, `SignatureError`, or `KeyError` where the agreement names no such silo.
    """
    by = _BY.search(unverified_body(signed)[-_BY_BYTES:])
    if by is None:
        raise MalformedError("enrolment: expected a request that ends with the silo's name and version 1")
    silo = by[1].decode("ascii")
    enrol = Enrol.parse(open_message(identities[silo], ENROL_LABEL, signed, f"enrolment of {silo}"))
    if enrol.silo != silo:
        raise MalformedError(f"enrolment: expected one of {silo}, found one of {enrol.silo}")
    return enrol
