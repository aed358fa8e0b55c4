"""The upper floor: does an authentic token say what we ask for? From an authentic token to a verdict.

Trusts that `authenticate` made its input, and the reference values. Debugging, migration, and a VM without isolation or
without secure boot are refused always.

The checklist continues that of `authenticate`, by the numbers above each block:

 8. the signer: a pinned key; 9. the issuer, exactly;
10. hardware isolates it, and is not debugged, by any claim that says so;
11. the issuer's attestation policy;
12. the token is not older than the maximum age;
13. the attestation type, and the hardware's; 14. Azure's compliance status;
15. what else the host may do: SNP: no migration, SMT as accepted; TDX: attributes, XFAM, an Intel module;
16. SNP: VMPL;
17. measurements: SNP launch measurement; TDX MRTD and RTMRs; SGX MRENCLAVE;
18. what the host committed to: SNP host data; TDX MRCONFIGID, MROWNER, MROWNERCONFIG; SGX CONFIGID;
19. TCB: SNP security versions; TDX status; SGX security version;
20. who signed it: SNP ID and author key; TDX MRSEAM; SGX MRSIGNER and product;
21. an Azure VM: secure boot, no debugging of its boot, its id;
22. the report data: the hardware's; or, of an Azure VM, a nonce that is ours for it.

Sources: as for `maa.token`, and AMD 56860 and Intel's DCAP for what the hardware's claims mean.
"""

from typing import Final, Literal

from attestation.checklist import Checklist
from attestation.errors import EvidenceNotAuthentic, EvidenceRefused
from attestation.terms import coverage_warnings
from attestation.token.maa.authenticate import AuthenticToken
from attestation.token.maa.claims import PRODUCT, claims_of, measurement_of
from attestation.token.maa.hardware import Hardware, SgxClaims, SnpClaims, TdxClaims
from attestation.token.maa.hardware_checks import check_sgx, check_snp, check_tdx
from attestation.token.maa.reference_values import (
    ANY,
    NONE,
    MaaReferenceValues,
    SgxHardware,
    SnpHardware,
    TdxHardware,
)
from attestation.token.maa.token import ISOLATION, MaaToken, VirtualMachine
from attestation.token.nonce import require_nonce
from attestation.token.published_key import require_pinned
from attestation.verdict import Verdict

BY_SERVICE: Final = (
    "the root of trust is Microsoft's attestation service: nobody else can tell that it verified the hardware"
)
MAY_BE_MILAN: Final = (
    "the token doesn't say which processor it is about: it may be an EPYC Milan, whose keys can be extracted"
)


def appraise(authentic: AuthenticToken, values: MaaReferenceValues, report_data: bytes | None) -> Verdict:
    """Compare an authentic token with one set of reference values and what it must commit to, if given.

    Raises `EvidenceNotAuthentic` for another key or issuer, `EvidenceRefused` naming the first field that differs.
    """
    token = authentic.token
    checks = Checklist(EvidenceRefused, authentic.checks)

    # 8. and 9. who vouches
    require_pinned(checks, 8, authentic.signing_key, values.signing_keys)
    if token.issuer not in values.issuers:
        stranger = EvidenceNotAuthentic(
            "issuers", expected=" or ".join(values.issuers), found=ascii(token.issuer)[:120]
        )
        raise checks.failed(stranger, 9)
    checks.passed(9, "issuers", " or ".join(values.issuers), token.issuer)

    # 10. what no reference value can allow
    hardware = token.hardware
    if hardware is None:
        found = ascii(token.isolation_type or "nothing: not confidential")[1:-1][:80]
        unprotected = EvidenceRefused(ISOLATION, expected="hardware that isolates", found=found)
        raise checks.failed(unprotected, 10)
    checks.passed(10, ISOLATION, "hardware that isolates", f"{token.isolation_type}")
    checks.require(not hardware.debug, 10, "debug", "off", "on" if hardware.debug else "off")

    # 11. by what rules
    accepted = " or ".join(policy.hex() for policy in values.policy_hashes)
    checks.require(token.policy_hash in values.policy_hashes, 11, "policy_hashes", accepted, token.policy_hash.hex())

    # 12. fresh at the time given
    token.lifetime.require_age(checks, 12, values.maximum_age_seconds, authentic.now)

    _check_type(checks, token, values)
    _check_hardware(checks, hardware, values)
    if token.machine is not None:
        _check_machine(checks, token.machine, values.vm_ids)

    # 22. what the token commits to
    require_nonce(checks, 22, report_data, token.commitments())
    return Verdict(
        tee=values.tee,
        product=PRODUCT,
        measurement=measurement_of(hardware),
        report_data=report_data,
        claims=claims_of(token),
        checks=checks.made(),
        warnings=(
            BY_SERVICE,
            *((MAY_BE_MILAN,) if isinstance(hardware, SnpClaims) else ()),
            *coverage_warnings(values.covers),
        ),
        simulated=False,
    )


def _check_type(checks: Checklist, token: MaaToken, values: MaaReferenceValues) -> None:
    # 13. what was attested, on what
    for name, expected, found in (
        ("attestation_type", values.attestation_type, token.attestation_type),
        ("hardware.type", values.hardware.type, token.isolation_type),
    ):
        checks.require(found == expected, 13, name, expected, ascii(found)[1:-1][:80])

    # 14. what Azure thinks of it
    status = ascii(token.compliance_status or NONE)[1:-1][:80]
    if values.compliance_statuses == NONE:
        checks.require(token.compliance_status is None, 14, "compliance_statuses", NONE, status)
    else:
        accepted = " or ".join(values.compliance_statuses)
        checks.require(
            token.compliance_status in values.compliance_statuses, 14, "compliance_statuses", accepted, status
        )


def _check_hardware(checks: Checklist, hardware: Hardware, values: MaaReferenceValues) -> None:
    # 15 to 20. by kind
    match hardware, values.hardware:
        case SnpClaims(), SnpHardware() as accepted:
            check_snp(checks, hardware, accepted)
        case TdxClaims(), TdxHardware() as accepted:
            check_tdx(checks, hardware, accepted)
        case SgxClaims(), SgxHardware() as accepted:
            check_sgx(checks, hardware, accepted)
        case _:
            raise EvidenceRefused("hardware.type", expected=values.hardware.type, found="another kind")


def _check_machine(
    checks: Checklist, machine: VirtualMachine, vm_ids: tuple[str, ...] | Literal["any", "none"]
) -> None:
    # 21. what booted on the paravisor
    checks.require(machine.secure_boot is True, 21, "secureboot", "True", str(machine.secure_boot))
    checks.require(not machine.debug, 21, "debug", "no debugging of the VM's boot", ", ".join(machine.debug) or "none")
    checks.require(
        machine.debuggers_disabled is not False, 21, "debug", "debuggers disabled", str(machine.debuggers_disabled)
    )
    if vm_ids == ANY:
        checks.passed(21, "vm_ids", ANY, ascii(machine.vm_id)[1:-1][:80])
    else:
        checks.require(
            machine.vm_id is not None and machine.vm_id in vm_ids,
            21,
            "vm_ids",
            " or ".join(vm_ids),
            ascii(machine.vm_id)[1:-1][:80],
        )
