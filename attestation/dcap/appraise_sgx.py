"""The upper floor for enclaves: does an authentic quote say what we ask for?

Trusts that `authenticate` made its input, and the reference values. The checklist continues that of
`appraise_platform`, by the numbers above each block:

17. attributes as a whole, extended features, MISCSELECT;
18. MRENCLAVE;
19. MRSIGNER, its product, and the minimum of its security version;
20. key separation and sharing: identities and configuration, or none of it;
21. report data: equal in all 64 bytes, and not all zero.

Source: Intel SDM volume 3D, REPORT; Intel SGX ECDSA quote library reference, A.4.
"""

from attestation.checklist import Checklist
from attestation.commitment import require_commitment
from attestation.dcap.appraise_platform import appraise_platform, require_listed, warnings_of
from attestation.dcap.authenticate import AuthenticQuote
from attestation.dcap.claims import SGX_PRODUCT, verified_claims
from attestation.dcap.enclave_report import EnclaveReport
from attestation.dcap.reference_values import KssReferenceValues, SgxReferenceValues
from attestation.errors import EvidenceMalformed, EvidenceRefused
from attestation.verdict import Verdict

_WITHOUT_KSS = KssReferenceValues(
    config_id=bytes(64), minimum_config_svn=0, isv_ext_prod_id=bytes(16), isv_family_id=bytes(16)
)


def appraise_sgx(authentic: AuthenticQuote, values: SgxReferenceValues, report_data: bytes | None) -> Verdict:
    """Compare an authentic quote with one set of reference values and the 64 bytes that it must carry, if given.

    Raises `EvidenceRefused` naming the first field that differs, `EvidenceMalformed` if it is no enclave's.
    """
    enclave = authentic.quote.body
    if not isinstance(enclave, EnclaveReport):
        raise EvidenceMalformed("body", expected="an enclave's report", found="another")
    checks = Checklist(EvidenceRefused, authentic.checks)
    appraise_platform(checks, authentic, values.platform)

    # 17. what it may use
    require_listed(checks, 17, "attributes", values.attributes, enclave.attributes)
    require_listed(checks, 17, "xfrm", values.xfrm, enclave.xfrm)
    require_listed(checks, 17, "misc_select", values.misc_select, enclave.misc_select)

    # 18. the code
    require_listed(checks, 18, "mr_enclave", values.mr_enclave, enclave.mr_enclave)

    # 19. its signer
    require_listed(checks, 19, "mr_signer", values.mr_signer, enclave.mr_signer)
    product, version = enclave.isv_prod_id, enclave.isv_svn
    checks.require(product == values.isv_prod_id, 19, "isv_prod_id", str(values.isv_prod_id), str(product))
    minimum = values.minimum_isv_svn
    checks.require(version >= minimum, 19, "minimum_isv_svn", f"at least {minimum}", str(version))

    _check_kss(checks, enclave, values.kss)

    # 21. what the quote commits to
    require_commitment(checks, 21, report_data, enclave.report_data)
    return Verdict(
        tee=values.tee,
        product=SGX_PRODUCT,
        measurement=enclave.mr_enclave,
        report_data=None if report_data is None else enclave.report_data,
        claims=verified_claims(authentic),
        checks=checks.made(),
        warnings=warnings_of(authentic, values.covers),
        simulated=False,
    )


def _check_kss(checks: Checklist, enclave: EnclaveReport, values: KssReferenceValues | None) -> None:
    # 20. who configured it, if anybody
    kss = values or _WITHOUT_KSS
    require_listed(checks, 20, "kss.config_id", (kss.config_id,), enclave.config_id)
    require_listed(checks, 20, "kss.isv_ext_prod_id", (kss.isv_ext_prod_id,), enclave.isv_ext_prod_id)
    require_listed(checks, 20, "kss.isv_family_id", (kss.isv_family_id,), enclave.isv_family_id)
    minimum, found = kss.minimum_config_svn, enclave.config_svn
    in_range = found >= minimum if values else found == 0
    expected = f"at least {minimum}" if values else "0 without kss"
    checks.require(in_range, 20, "kss.minimum_config_svn", expected, str(found))
