"""The upper floor for trust domains: does an authentic quote say what we ask for?

Trusts that `authenticate` made its input, and the reference values. The checklist continues that of
`appraise_platform`, by the numbers above each block:

17. TD attributes as a whole, with SEPT_VE_DISABLE, and extended features;
18. the TDX module;
19. MRTD;
20. the four runtime registers;
21. what the host committed to at launch: MRCONFIGID, MROWNER, MROWNERCONFIG;
22. the service TDs bound to it;
23. report data: equal in all 64 bytes, and not all zero.

Source: Intel TDX module base architecture specification, TDREPORT_STRUCT; Intel TDX DCAP quoting library API, A.3.2.
"""

from attestation.checklist import Checklist
from attestation.commitment import require_commitment
from attestation.dcap.appraise_platform import appraise_platform, require_listed, warnings_of
from attestation.dcap.authenticate import AuthenticQuote
from attestation.dcap.claims import TDX_PRODUCT, verified_claims
from attestation.dcap.reference_values import TdxReferenceValues
from attestation.dcap.td_report import MEASUREMENT_BYTES, TdFlag, TdReport
from attestation.errors import EvidenceMalformed, EvidenceRefused
from attestation.verdict import Verdict


def appraise_tdx(authentic: AuthenticQuote, values: TdxReferenceValues, report_data: bytes | None) -> Verdict:
    """Compare an authentic quote with one set of reference values and the 64 bytes that it must carry, if given.

    Raises `EvidenceRefused` naming the first field that differs, `EvidenceMalformed` if it is no TD's.
    """
    td = authentic.quote.body
    if not isinstance(td, TdReport):
        raise EvidenceMalformed("body", expected="a TD report", found="another")
    checks = Checklist(EvidenceRefused, authentic.checks)
    appraise_platform(checks, authentic, values.platform)

    # 17. what the host may do to it, and what it may use
    found = td.td_attributes.hex()
    disabled = TdFlag.SEPT_VE_DISABLE.is_set(td.td_attributes)
    checks.require(disabled, 17, "td_attributes", "SEPT_VE_DISABLE (bit 28) set", found)
    require_listed(checks, 17, "td_attributes", values.td_attributes, td.td_attributes)
    require_listed(checks, 17, "xfam", values.xfam, td.xfam)

    # 18. to 20. measurements
    require_listed(checks, 18, "mr_seam", values.mr_seam, td.mr_seam)
    require_listed(checks, 19, "mr_td", values.mr_td, td.mr_td)
    require_listed(checks, 20, "rtmr0", values.rtmr0, td.rtmr0)
    require_listed(checks, 20, "rtmr1", values.rtmr1, td.rtmr1)
    require_listed(checks, 20, "rtmr2", values.rtmr2, td.rtmr2)
    require_listed(checks, 20, "rtmr3", values.rtmr3, td.rtmr3)

    # 21. the host's word
    require_listed(checks, 21, "mr_config_id", (values.mr_config_id,), td.mr_config_id)
    require_listed(checks, 21, "mr_owner", (values.mr_owner,), td.mr_owner)
    require_listed(checks, 21, "mr_owner_config", (values.mr_owner_config,), td.mr_owner_config)

    # 22. service TDs; a 1.0 report can't name any
    service = td.mr_service_td or bytes(MEASUREMENT_BYTES)
    require_listed(checks, 22, "mr_service_td", (values.mr_service_td,), service)

    # 23. what the quote commits to
    require_commitment(checks, 23, report_data, td.report_data)
    warnings = warnings_of(authentic, values.covers)
    if any(service):
        warnings += ("service TDs are bound to this one, and may decide what becomes of it",)
    return Verdict(
        tee=values.tee,
        product=TDX_PRODUCT,
        measurement=td.mr_td,
        report_data=None if report_data is None else td.report_data,
        claims=verified_claims(authentic),
        checks=checks.made(),
        warnings=warnings,
        simulated=False,
    )
