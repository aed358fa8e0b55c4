"""AWS Nitro Enclaves as a family of evidence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography import x509

from attestation.claims import Claims
from attestation.errors import EvidenceRefused, ReferenceValuesError, RevocationUnpublished
from attestation.evidence import Evidence
from attestation.nitro.appraise import appraise
from attestation.nitro.authenticate import AuthenticDocument, authenticate
from attestation.nitro.claims import claims_of, is_debug
from attestation.nitro.cose import START, TAG_18, CoseSign1
from attestation.nitro.document import AttestationDocument
from attestation.nitro.reference_values import ANY, CERTIFICATE_SECONDS, NitroReferenceValues, Presence
from attestation.reference_values import ReferenceValues
from attestation.terms import Covers, Revocation
from attestation.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticNitro:
    """A document that the pinned root vouches for."""

    document: AuthenticDocument

    def appraise(self, values: ReferenceValues, report_data: bytes | None) -> Verdict:
        """As `attestation.family.Authentic` says."""
        if not isinstance(values, NitroReferenceValues):
            raise ReferenceValuesError("tee", expected="reference values for Nitro Enclaves", found=str(values.tee))
        return appraise(self.document, values, report_data)


@dataclass(frozen=True, slots=True)
class NitroFamily:
    """As `attestation.family.Family` says; `root` is AWS's."""

    root: Callable[[], x509.Certificate]

    def recognises(self, data: bytes) -> bool:
        return data.removeprefix(TAG_18).startswith(START)

    def describe(self, report: bytes) -> Claims:
        return claims_of(_document(report))

    def authenticate(self, evidence: Evidence, now: datetime) -> AuthenticNitro:
        envelope = CoseSign1.parse(evidence.report)
        return AuthenticNitro(document=authenticate(envelope, evidence.endorsements, self.root(), now))

    def renewed(self, evidence: Evidence, endorsements: Sequence[bytes], now: datetime) -> Evidence:
        found = "none: AWS publishes none, and its certificates live hours"
        raise RevocationUnpublished("revocation", expected="a list of what was withdrawn", found=found)

    def reference(self, evidence: Evidence) -> ReferenceValues:
        """The same image, role, instance and signer; any launch of it, for as long as its certificate may live."""
        document = _document(evidence.report)
        if is_debug(document):
            raise EvidenceRefused("debug", expected="an enclave that was not started in debug mode", found="PCR0 zero")
        return NitroReferenceValues(
            tee=evidence.tee,
            pcr0=_measured(document, 0),
            pcr1=_measured(document, 1),
            pcr2=_measured(document, 2),
            pcr3=_register_or_any(document, 3),
            pcr4=_register_or_any(document, 4),
            pcr8=_register_or_any(document, 8),
            module_ids=ANY,
            maximum_age_seconds=CERTIFICATE_SECONDS,
            nonce=Presence.ABSENT if document.nonce is None else Presence.ANY,
            public_key=Presence.ABSENT if document.public_key is None else Presence.ANY,
            revocation=Revocation.SHORT_LIVED,
            covers=Covers.CODE,
        )


def _measured(document: AttestationDocument, index: int) -> tuple[bytes]:
    value = document.pcrs.get(index, b"")
    if not any(value):
        raise EvidenceRefused(f"pcr{index}", expected="a measurement", found=value.hex() or "not in the document")
    return (value,)


def _register_or_any(document: AttestationDocument, index: int) -> tuple[bytes] | Literal["any"]:
    return (document.pcrs[index],) if index in document.pcrs else ANY


def _document(report: bytes) -> AttestationDocument:
    return AttestationDocument.parse(CoseSign1.parse(report).payload)
