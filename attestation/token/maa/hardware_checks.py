"""Lines 15 to 20 of `maa.appraise`, for each kind of hardware."""

from typing import Literal

from attestation.checklist import Checklist
from attestation.token.maa.hardware import SVNS, SgxClaims, SnpClaims, TdxClaims
from attestation.token.maa.reference_values import ANY, SgxHardware, SnpHardware, TdxHardware


def check_snp(checks: Checklist, found: SnpClaims, accepted: SnpHardware) -> None:
    """An AMD SEV-SNP report; raises `EvidenceRefused`."""
    # 15. what the host may do
    checks.require(not found.migration_allowed, 15, "migration", "not allowed", _allowed(found.migration_allowed))
    checks.require(
        accepted.smt_allowed or not found.smt_allowed,
        15,
        "hardware.smt_allowed",
        _allowed(accepted.smt_allowed),
        _allowed(found.smt_allowed),
    )

    # 16. privilege level
    checks.require(found.vmpl == accepted.vmpl, 16, "hardware.vmpl", str(accepted.vmpl), str(found.vmpl))

    # 17. and 18. measurement, host data
    _among(checks, 17, "measurements", accepted.measurements, found.launch_measurement)
    _among(checks, 18, "host_data", accepted.host_data, found.host_data)

    # 19. security versions, each by itself
    minima = {name: getattr(accepted, f"minimum_{name}_svn") for name in SVNS}
    versions = {"guest": (accepted.minimum_guest_svn, found.guest_svn)}
    versions |= {name: (minima[name], found.svns[name]) for name in SVNS}
    for name, (minimum, svn) in versions.items():
        checks.require(svn >= minimum, 19, f"hardware.minimum_{name}_svn", f"at least {minimum}", str(svn))

    # 20. who signed the launch
    _among(checks, 20, "id_key_digests", accepted.id_key_digests, found.id_key_digest)
    _among(checks, 20, "author_key_digest", (accepted.author_key_digest,), found.author_key_digest)


def check_tdx(checks: Checklist, found: TdxClaims, accepted: TdxHardware) -> None:
    """An Intel TDX quote; raises `EvidenceRefused`."""
    # 15. what the host may do
    _among(checks, 15, "td_attributes", accepted.td_attributes, found.td_attributes)
    _among(checks, 15, "xfam", accepted.xfam, found.xfam)
    for name, value in (("mrsignerseam", found.mrsignerseam), ("seam_attributes", found.seam_attributes)):
        checks.require(not any(value), 15, name, "zero: Intel's own module", value.hex())

    # 17. measurements
    _among(checks, 17, "mrtd", accepted.mrtd, found.mrtd)
    registers = (accepted.rtmr0, accepted.rtmr1, accepted.rtmr2, accepted.rtmr3)
    for index, (allowed, value) in enumerate(zip(registers, found.rtmrs, strict=True)):
        _among(checks, 17, f"rtmr{index}", allowed, value)

    # 18. what the host committed to
    _among(checks, 18, "mrconfigid", (accepted.mrconfigid,), found.mrconfigid)
    _among(checks, 18, "mrowner", (accepted.mrowner,), found.mrowner)
    _among(checks, 18, "mrownerconfig", (accepted.mrownerconfig,), found.mrownerconfig)

    # 19. TCB status
    expected = " or ".join(accepted.tcb_statuses)
    shown = ascii(found.tcb_status)[1:-1][:80]
    checks.require(found.tcb_status in accepted.tcb_statuses, 19, "hardware.tcb_statuses", expected, shown)

    # 20. the module
    _among(checks, 20, "mrseam", accepted.mrseam, found.mrseam)


def check_sgx(checks: Checklist, found: SgxClaims, accepted: SgxHardware) -> None:
    """An Intel SGX quote; raises `EvidenceRefused`."""
    # 17. and 18. measurement, configuration
    _among(checks, 17, "mr_enclaves", accepted.mr_enclaves, found.mr_enclave)
    _among(checks, 18, "config_id", (accepted.config_id,), found.config_id)

    # 19. security version
    checks.require(
        found.svn >= accepted.minimum_svn,
        19,
        "hardware.minimum_svn",
        f"at least {accepted.minimum_svn}",
        str(found.svn),
    )

    # 20. who signed the enclave, as which product
    _among(checks, 20, "mr_signers", accepted.mr_signers, found.mr_signer)
    products = " or ".join(str(product_id) for product_id in accepted.product_ids)
    checks.require(
        found.product_id in accepted.product_ids, 20, "hardware.product_ids", products, str(found.product_id)
    )


def _among(
    checks: Checklist, number: int, name: str, accepted: tuple[bytes, ...] | Literal["any"], found: bytes
) -> None:
    if accepted == ANY:
        checks.passed(number, f"hardware.{name}", ANY, found.hex())
    else:
        expected = " or ".join(value.hex() for value in accepted)
        checks.require(found in accepted, number, f"hardware.{name}", expected, found.hex())


def _allowed(allowed: bool) -> str:
    return "allowed" if allowed else "not allowed"
