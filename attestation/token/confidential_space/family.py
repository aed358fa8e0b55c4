"""Google Confidential Space as a family of evidence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from cryptography import x509

from attestation.claims import Claims
from attestation.errors import (
    AttestationError,
    EvidenceRefused,
    EvidenceUncheckable,
    ReferenceValuesError,
    RevocationUnpublished,
)
from attestation.evidence import Evidence
from attestation.reference_values import ReferenceValues
from attestation.terms import Covers, Revocation
from attestation.token.claim_set import ClaimSet
from attestation.token.confidential_space.appraise import appraise
from attestation.token.confidential_space.authenticate import AuthenticToken, authenticate
from attestation.token.confidential_space.claims import DEBUG_DISABLED, claims_of
from attestation.token.confidential_space.reference_values import (
    ANY,
    GOOGLE_ROOT,
    ConfidentialSpaceReferenceValues,
    Gpu,
    HardwareModel,
    SupportAttribute,
)
from attestation.token.confidential_space.token import ConfidentialSpaceToken
from attestation.token.jwks import select_key
from attestation.token.jws import Jws
from attestation.token.maa.token import is_maa
from attestation.verdict import Verdict

_Value = TypeVar("_Value")
_Name = TypeVar("_Name", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticConfidentialSpace:
    """A token that Google's root, or a key that is still to be compared, vouches for."""

    token: AuthenticToken

    def appraise(self, values: ReferenceValues, report_data: bytes | None) -> Verdict:
        """As `attestation.family.Authentic` says."""
        if not isinstance(values, ConfidentialSpaceReferenceValues):
            raise ReferenceValuesError("tee", expected="reference values for Confidential Space", found=str(values.tee))
        return appraise(self.token, values, report_data)


@dataclass(frozen=True, slots=True)
class ConfidentialSpaceFamily:
    """As `attestation.family.Family` says; `root` is Google's. A token that isn't Microsoft's is read as Google's."""

    root: Callable[[], x509.Certificate]

    def recognises(self, data: bytes) -> bool:
        try:
            return not is_maa(Jws.parse(data))
        except AttestationError:
            return False

    def describe(self, report: bytes) -> Claims:
        return claims_of(ConfidentialSpaceToken.read(Jws.parse(report).payload))

    def authenticate(self, evidence: Evidence, now: datetime) -> AuthenticConfidentialSpace:
        token = authenticate(Jws.parse(evidence.report), evidence.endorsements, self.root(), now)
        return AuthenticConfidentialSpace(token=token)

    def renewed(self, evidence: Evidence, endorsements: Sequence[bytes], now: datetime) -> Evidence:
        found = "none: Google publishes none, and its tokens live an hour"
        raise RevocationUnpublished("revocation", expected="a list of what was withdrawn", found=found)

    def reference(self, evidence: Evidence) -> ReferenceValues:
        """The same workload, place and account, on the same hardware, on an image at least as new.

        Of the support attributes, LATEST is left out where STABLE says enough: the next image would end it.
        """
        jws = Jws.parse(evidence.report)
        try:
            return _reference(evidence, jws, ConfidentialSpaceToken.read(jws.payload))
        except ReferenceValuesError as error:
            raise EvidenceRefused(error.field, expected=error.expected, found=error.found) from error


def _reference(evidence: Evidence, jws: Jws, token: ConfidentialSpaceToken) -> ConfidentialSpaceReferenceValues:
    for name, expected, found in (
        ("dbgstat", DEBUG_DISABLED, token.debug_status),
        ("secboot", "True", str(token.secure_boot)),
    ):
        if found != expected:
            raise EvidenceRefused(name, expected=expected, found=f"{found}")
    hardware = _named(HardwareModel, "hwmodels", token.hardware_model)
    latest, stable = SupportAttribute.LATEST, SupportAttribute.STABLE
    attributes = [_named(SupportAttribute, "support_attributes", name) for name in token.support_attributes]
    return ConfidentialSpaceReferenceValues(
        tee=evidence.tee,
        signing_keys=GOOGLE_ROOT if "x5c" in jws.header else (_thumbprint(jws, evidence.endorsements),),
        audiences=(token.audience,),
        maximum_age_seconds=int((token.lifetime.expires_at - token.lifetime.issued_at).total_seconds()),
        hwmodels=(hardware,),
        tcb_statuses=(_stated("tcb_statuses", token.tcb_status),) if hardware is HardwareModel.GCP_INTEL_TDX else (),
        minimum_swversion=_stated("minimum_swversion", token.software_version),
        support_attributes=tuple(name for name in attributes if name is not latest or stable not in attributes),
        memory_monitoring=token.memory_monitoring is not False,
        image_digests=(_stated("image_digests", token.image_digest),),
        image_references=(_stated("image_references", token.image_reference),),
        cmd_override=token.command_override,
        env_override=token.environment_override,
        project_ids=(_stated("project_ids", token.project_id),),
        zones=(_stated("zones", token.zone),),
        service_accounts=token.service_accounts or ANY,
        gpu=Gpu.ABSENT if token.gpu_mode is None else Gpu.ON,
        revocation=Revocation.SHORT_LIVED,
        covers=Covers.CODE,
    )


def _thumbprint(jws: Jws, endorsements: tuple[bytes, ...]) -> bytes:
    """Of the key that the token names, which the key set must hold for anybody to know."""
    key = select_key(endorsements, ClaimSet(jws.header).text("kid"))
    if key is None:
        raise EvidenceUncheckable("endorsements", expected="the key set of Google's service", found="none")
    return key.thumbprint


def _stated(field: str, value: _Value | None) -> _Value:
    if value is None:
        raise EvidenceRefused(field, expected="a claim of it", found="none")
    return value


def _named(kind: type[_Name], field: str, name: str | None) -> _Name:
    """The accepted value of that name."""
    if name not in tuple(kind):
        raise EvidenceRefused(field, expected=" or ".join(kind), found=ascii(name)[:80])
    return kind(name)
