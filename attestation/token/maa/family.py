"""Microsoft Azure Attestation as a family of evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

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
from attestation.token.jwks import select_key
from attestation.token.jws import Jws
from attestation.token.maa.appraise import appraise
from attestation.token.maa.authenticate import AuthenticToken, authenticate
from attestation.token.maa.claims import claims_of
from attestation.token.maa.hardware import Hardware, SgxClaims, SnpClaims, TdxClaims
from attestation.token.maa.reference_values import (
    NONE,
    PARAVISOR,
    MaaHardware,
    MaaReferenceValues,
    SgxHardware,
    SnpHardware,
    TdxHardware,
)
from attestation.token.maa.token import ISOLATION, AttestationType, MaaToken, is_maa
from attestation.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticMaa:
    """A token that a key, which is still to be compared, vouches for."""

    token: AuthenticToken

    def appraise(self, values: ReferenceValues, report_data: bytes | None) -> Verdict:
        """As `attestation.family.Authentic` says."""
        if not isinstance(values, MaaReferenceValues):
            raise ReferenceValuesError("tee", expected="reference values for Azure Attestation", found=str(values.tee))
        return appraise(self.token, values, report_data)


@dataclass(frozen=True, slots=True)
class MaaFamily:
    """As `attestation.family.Family` says. There is no root: the reference values pin keys."""

    def recognises(self, data: bytes) -> bool:
        try:
            return is_maa(Jws.parse(data))
        except AttestationError:
            return False

    def describe(self, report: bytes) -> Claims:
        return claims_of(MaaToken.read(Jws.parse(report).payload))

    def authenticate(self, evidence: Evidence, now: datetime) -> AuthenticMaa:
        return AuthenticMaa(token=authenticate(Jws.parse(evidence.report), evidence.endorsements, now))

    def renewed(self, evidence: Evidence, endorsements: Sequence[bytes], now: datetime) -> Evidence:
        found = "none: Microsoft publishes none, and its tokens live hours"
        raise RevocationUnpublished("revocation", expected="a list of what was withdrawn", found=found)

    def reference(self, evidence: Evidence) -> ReferenceValues:
        """The same machine's kind and measurements, from the same issuer under the same policy and key."""
        jws = Jws.parse(evidence.report)
        token = MaaToken.read(jws.payload)
        if token.hardware is None:
            raise EvidenceRefused(ISOLATION, expected="hardware that isolates", found="none: not confidential")
        if token.hardware.debug:
            raise EvidenceRefused("debug", expected="off", found="on")
        try:
            return _reference(evidence, jws, token, _hardware(token.hardware))
        except ReferenceValuesError as error:
            raise EvidenceRefused(error.field, expected=error.expected, found=error.found) from error


def _reference(evidence: Evidence, jws: Jws, token: MaaToken, hardware: MaaHardware) -> MaaReferenceValues:
    key = select_key(evidence.endorsements, ClaimSet(jws.header).text("kid"))
    if key is None:
        raise EvidenceUncheckable("endorsements", expected="the issuer's key set", found="none")
    kind = AttestationType(token.attestation_type)
    is_paravisor = kind is AttestationType.AZURE_VM or token.compliance_status == PARAVISOR
    vm_ids: tuple[str, ...] = () if token.machine is None or token.machine.vm_id is None else (token.machine.vm_id,)
    return MaaReferenceValues(
        tee=evidence.tee,
        signing_keys=(key.thumbprint,),
        issuers=(token.issuer,),
        policy_hashes=(token.policy_hash,),
        maximum_age_seconds=int((token.lifetime.expires_at - token.lifetime.issued_at).total_seconds()),
        attestation_type=kind,
        compliance_statuses=NONE if token.compliance_status is None else (token.compliance_status,),
        hardware=hardware,
        vm_ids=NONE if token.machine is None else vm_ids,
        revocation=Revocation.SHORT_LIVED,
        covers=Covers.FIRMWARE_ONLY if is_paravisor or not hardware.reaches_code else Covers.CODE,
    )


def _hardware(found: Hardware) -> MaaHardware:
    """Reference values that accept what was found, and newer firmware."""
    match found:
        case SnpClaims():
            return SnpHardware(
                measurements=(found.launch_measurement,),
                host_data=(found.host_data,),
                id_key_digests=(found.id_key_digest,),
                author_key_digest=found.author_key_digest,
                vmpl=found.vmpl,
                smt_allowed=found.smt_allowed,
                minimum_guest_svn=found.guest_svn,
                minimum_bootloader_svn=found.svns["bootloader"],
                minimum_tee_svn=found.svns["tee"],
                minimum_snpfw_svn=found.svns["snpfw"],
                minimum_microcode_svn=found.svns["microcode"],
            )
        case TdxClaims():
            return TdxHardware(
                mrtd=(found.mrtd,),
                rtmr0=(found.rtmrs[0],),
                rtmr1=(found.rtmrs[1],),
                rtmr2=(found.rtmrs[2],),
                rtmr3=(found.rtmrs[3],),
                mrseam=(found.mrseam,),
                mrconfigid=found.mrconfigid,
                mrowner=found.mrowner,
                mrownerconfig=found.mrownerconfig,
                td_attributes=(found.td_attributes,),
                xfam=(found.xfam,),
                tcb_statuses=(found.tcb_status,),
            )
        case SgxClaims():
            return SgxHardware(
                mr_enclaves=(found.mr_enclave,),
                mr_signers=(found.mr_signer,),
                product_ids=(found.product_id,),
                minimum_svn=found.svn,
                config_id=found.config_id,
            )
