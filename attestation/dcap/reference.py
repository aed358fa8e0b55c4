"""Reference values that accept one quote, made from the quote and its collateral, which nobody has verified yet."""

from attestation.dcap.chain import PckChain, choose_pck_chain
from attestation.dcap.collateral import Collateral
from attestation.dcap.enclave_report import EnclaveFlag, EnclaveReport
from attestation.dcap.intel_json import NEVER_ACCEPTED
from attestation.dcap.quote import Quote
from attestation.dcap.reference_values import (
    KssReferenceValues,
    PlatformReferenceValues,
    SgxReferenceValues,
    TdxReferenceValues,
    reaches_code,
)
from attestation.dcap.roots import Root
from attestation.dcap.tcb import standing_of
from attestation.dcap.td_report import KNOWN_TD_ATTRIBUTES, MEASUREMENT_BYTES, TdFlag, TdReport
from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic, EvidenceRefused, EvidenceUncheckable
from attestation.tee import Tee
from attestation.terms import Covers, Revocation


def reference_values_of(
    quote: Quote, endorsements: tuple[bytes, ...], root: Root
) -> TdxReferenceValues | SgxReferenceValues:
    """Reference values that accept this quote on this machine and nothing wider than need be.

    Raises `EvidenceMalformed`, `EvidenceUncheckable` without TCB information and QE identity for its platform, and
    `EvidenceRefused` where nothing could accept it: debugging, no SEPT_VE_DISABLE, a revoked or unknown platform.
    """
    if any(quote.trailing):
        raise EvidenceMalformed("trailing bytes", expected="none, or zero bytes", found=f"{len(quote.trailing)} others")
    body = quote.body
    if isinstance(body, TdReport):
        _require_acceptable(body)
    elif body.debug:
        raise EvidenceRefused("attributes", expected="DEBUG not set", found=body.attributes.hex())
    platform = _platform(quote, endorsements, root)
    return _tdx(body, platform) if isinstance(body, TdReport) else _sgx(body, platform)


def _require_acceptable(td: TdReport) -> None:
    attributes = td.td_attributes
    if td.debug:
        raise EvidenceRefused("td_attributes", expected="DEBUG not set", found=attributes.hex())
    if not TdFlag.SEPT_VE_DISABLE.is_set(attributes):
        raise EvidenceRefused("td_attributes", expected="SEPT_VE_DISABLE (bit 28) set", found=attributes.hex())
    if int.from_bytes(attributes, "little") & ~KNOWN_TD_ATTRIBUTES:
        raise EvidenceRefused("td_attributes", expected="no unknown bits", found=attributes.hex())
    if TdFlag.MIGRATABLE.is_set(attributes) and not any(td.mr_service_td or b""):
        raise EvidenceRefused("mr_service_td", expected="who migrates it, as MIGRATABLE is set", found="zero bytes")


def _platform(quote: Quote, endorsements: tuple[bytes, ...], root: Root) -> PlatformReferenceValues:
    collateral = Collateral.gather(endorsements)
    try:
        chain: PckChain = choose_pck_chain(quote, collateral, root)
    except EvidenceNotAuthentic as error:
        raise EvidenceUncheckable(error.field, expected=error.expected, found=error.found) from error
    if collateral.tcb_info is None or collateral.qe_identity is None:
        missing = "tcb_info" if collateral.tcb_info is None else "qe_identity"
        raise EvidenceUncheckable(missing, expected="one among the endorsements", found="none")
    tcb_info, pck = collateral.tcb_info.content, chain.identity
    if (tcb_info.tee, tcb_info.fmspc) != (quote.header.tee, pck.fmspc):
        expected = f"that of {quote.header.tee} on FMSPC {pck.fmspc.hex()}"
        raise EvidenceUncheckable("tcb_info", expected=expected, found=f"{tcb_info.tee} on {tcb_info.fmspc.hex()}")
    try:
        standing = standing_of(quote, pck, tcb_info, collateral.qe_identity.content)
    except EvidenceNotAuthentic as error:
        raise EvidenceRefused(error.field, expected=error.expected, found=error.found) from error
    if standing.status in NEVER_ACCEPTED:
        raise EvidenceRefused("tcb_statuses", expected="one that can be accepted", found=standing.status)
    return PlatformReferenceValues(
        tcb_statuses=(standing.status,),
        advisory_ids=standing.advisory_ids,
        minimum_tcb_evaluation_data_number=tcb_info.tcb_evaluation_data_number,
        dynamic_platform=pck.dynamic_platform is not False,
        cached_keys=pck.cached_keys is not False,
        smt=pck.smt is not False,
        fmspcs=(pck.fmspc,),
        ppids=(pck.ppid,),
    )


def _tdx(td: TdReport, platform: PlatformReferenceValues) -> TdxReferenceValues:
    return TdxReferenceValues(
        tee=Tee.TDX,
        covers=Covers.CODE if reaches_code((td.rtmr1,), (td.rtmr2,)) else Covers.FIRMWARE_ONLY,
        revocation=Revocation.CRL,
        platform=platform,
        td_attributes=(td.td_attributes,),
        xfam=(td.xfam,),
        mr_seam=(td.mr_seam,),
        mr_td=(td.mr_td,),
        rtmr0=(td.rtmr0,),
        rtmr1=(td.rtmr1,),
        rtmr2=(td.rtmr2,),
        rtmr3=(td.rtmr3,),
        mr_config_id=td.mr_config_id,
        mr_owner=td.mr_owner,
        mr_owner_config=td.mr_owner_config,
        mr_service_td=td.mr_service_td or bytes(MEASUREMENT_BYTES),
    )


def _sgx(enclave: EnclaveReport, platform: PlatformReferenceValues) -> SgxReferenceValues:
    kss = KssReferenceValues(
        config_id=enclave.config_id,
        minimum_config_svn=enclave.config_svn,
        isv_ext_prod_id=enclave.isv_ext_prod_id,
        isv_family_id=enclave.isv_family_id,
    ) if EnclaveFlag.KSS.is_set(enclave.attributes) else None  # fmt: skip
    return SgxReferenceValues(
        tee=Tee.SGX,
        covers=Covers.CODE,
        revocation=Revocation.CRL,
        platform=platform,
        mr_enclave=(enclave.mr_enclave,),
        mr_signer=(enclave.mr_signer,),
        isv_prod_id=enclave.isv_prod_id,
        minimum_isv_svn=enclave.isv_svn,
        attributes=(enclave.attributes,),
        xfrm=(enclave.xfrm,),
        misc_select=(enclave.misc_select,),
        kss=kss,
    )
