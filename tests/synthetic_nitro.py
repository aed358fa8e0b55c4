"""Attestation documents under a root of our own: what AWS's hypervisor would say, said by nobody.

For what public documents lack, above all user data that we chose. `FAMILY` trusts that root and is registered nowhere.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha384
from typing import Any

from certificate_builder import SIGNER, Party, issue
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.evidence import Evidence
from attestation.nitro.cose import CoseSign1
from attestation.nitro.document import AttestationDocument
from attestation.nitro.family import NitroFamily
from attestation.nitro.reference_values import ANY, NitroReferenceValues, Presence
from attestation.tee import Tee
from attestation.terms import Covers, Revocation

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
REPORT_DATA = bytes(range(64))


def register(text: str) -> bytes:
    return sha384(text.encode()).digest()


@dataclass(frozen=True)
class Hypervisor:
    """The chain of one instance, the root last, and the key that signs."""

    root: Party
    region: Party
    zone: Party
    instance: Party
    signer: Party

    def document(self, **changes: Any) -> AttestationDocument:
        """A good document, or one with changed fields."""
        good = AttestationDocument(
            module_id="i-0-enc0",
            timestamp_ms=int(NOW.timestamp() * 1000),
            pcrs={0: register("image"), 1: register("kernel"), 2: register("application")}
            | {3: register("role"), 4: register("instance"), 8: bytes(48)},
            certificate=self.signer.der,
            cabundle=(self.root.der, self.region.der, self.zone.der, self.instance.der),
            public_key=None,
            user_data=REPORT_DATA,
            nonce=None,
        )
        return replace(good, **changes)

    def evidence(self, **changes: Any) -> Evidence:
        """A signed document."""
        return self.sign(self.document(**changes).encode())

    def sign(self, payload: bytes, *, tagged: bool = False) -> Evidence:
        """Any payload, signed."""
        unsigned = CoseSign1(payload=payload, signature=bytes(96), tagged=tagged)
        r, s = decode_dss_signature(self.signer.key.sign(unsigned.signed_bytes(), ec.ECDSA(SHA384())))
        signed = replace(unsigned, signature=r.to_bytes(48) + s.to_bytes(48))
        return Evidence(tee=Tee.NITRO, report=signed.encode(), endorsements=())


@cache
def hypervisor() -> Hypervisor:
    """One good chain, as AWS's are: five certificates with falling path lengths, the lowest one for three hours."""
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(5)]
    root = issue("test root", keys[0])
    region = issue("test region", keys[1], root)
    zone = issue("test zone", keys[2], region)
    instance = issue("test instance", keys[3], zone)
    signer = issue(
        "test enclave",
        keys[4],
        instance,
        extensions=SIGNER,
        not_before=NOW - timedelta(seconds=3),
        not_after=NOW + timedelta(hours=3),
    )
    return Hypervisor(root=root, region=region, zone=zone, instance=instance, signer=signer)


def our_root() -> x509.Certificate:
    return hypervisor().root.certificate


FAMILY = NitroFamily(our_root)


def reference_values(**changes: Any) -> NitroReferenceValues:
    """What accepts `hypervisor().evidence()`."""
    good = NitroReferenceValues(
        tee=Tee.NITRO,
        pcr0=(register("image"),),
        pcr1=(register("kernel"),),
        pcr2=(register("application"),),
        pcr3=(register("role"),),
        pcr4=(register("instance"),),
        pcr8=(bytes(48),),
        module_ids=ANY,
        maximum_age_seconds=300,
        nonce=Presence.ABSENT,
        public_key=Presence.ABSENT,
        revocation=Revocation.SHORT_LIVED,
        covers=Covers.CODE,
    )
    return replace(good, **changes)
