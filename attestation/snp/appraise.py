"""The upper floor: does an authentic report say what we ask for? From an authentic report to a verdict.

Trusts that `authenticate` made its input, and the reference values. There is no check that can be left out: what is
not wanted is not among the reference values, and a report that allows debugging or migration is refused always.

The checklist continues that of `authenticate`, by the numbers above each block:

 8. revocation: a list came along (and was good, by 5) where the reference values ask for one;
 9. product: chain, certificate and CPUID (version 3 on) name the same accepted one;
10. signing key: an accepted kind; a VLEK belongs to an accepted cloud provider;
11. chip: a VCEK's hardware id is CHIP_ID in full length, the chip key is not masked, and the chip is accepted;
12. REPORTED_TCB is the one that the certificate was issued for;
13. REPORTED and COMMITTED do not exceed CURRENT, and CURRENT is committed unless provisional firmware is accepted;
14. all four TCB versions reach the minimum, component by component;
15. guest policy: no DEBUG, no MIGRATE_MA, no migration agent, and an accepted policy as a whole;
16. platform information: all required bits, and no unknown ones;
17. mitigation vectors: all required bits at launch and now;
18. VMPL;
19. measurement;
20. host data;
21. ID block: digests, family, image, security version, or none of it;
22. report data: equal in all 64 bytes, and not all zero.

LAUNCH_TCB is not compared with REPORTED or COMMITTED: firmware may be updated under a running guest, and a report may
be asked for an older TCB than the chip's.

Sources: AMD 56860, ATTESTATION_REPORT; AMD 57230 for the certificate's side.
"""

from typing import Final

from attestation.checklist import Checklist
from attestation.commitment import require_commitment
from attestation.errors import EvidenceRefused, EvidenceUncheckable
from attestation.snp.authenticate import AuthenticReport
from attestation.snp.claims import NO_MIGRATION_AGENT, endorsement_claims, report_claims
from attestation.snp.flags import PolicyFlag, SigningKey, describe_platform, describe_policy
from attestation.snp.product import Product, product_of_cpuid
from attestation.snp.reference_values import ANY_CHIP, SnpReferenceValues
from attestation.snp.report import Report
from attestation.snp.tcb import TcbVersion
from attestation.terms import Revocation, coverage_warnings
from attestation.verdict import Verdict

MILAN_WARNING: Final = (
    "EPYC Milan: root seeds of its chips have been extracted in software (arXiv 2605.12990); whoever holds one forges "
    "reports for any TCB, so that no minimum TCB helps"
)
_KNOWN_PLATFORM_BITS = 0xFF


def appraise(authentic: AuthenticReport, values: SnpReferenceValues, report_data: bytes | None) -> Verdict:
    """Compare an authentic report with one set of reference values and the 64 bytes that it must carry, if given.

    Raises `EvidenceRefused` naming the first field that differs, `EvidenceUncheckable` if a revocation list is asked
    for and none came along, and `EvidenceMalformed` for a TCB version with reserved bytes set (their place depends on
    the product).
    """
    report, key = authentic.report, authentic.key
    checks = Checklist(EvidenceRefused, authentic.checks)
    checks.require(authentic.simulated is values.tee.simulated, 8, "roots", values.tee, _roots_of(authentic))

    _check_revocation(checks, authentic, values)
    _check_product(checks, authentic, values)
    _check_signing_key(checks, authentic, values)
    _check_chip(checks, authentic, values)
    # 12. the certificate was issued for this TCB
    with checks.line(12):
        reported = TcbVersion.parse(report.reported_tcb, authentic.product, "reported_tcb")
    checks.require(reported == key.tcb, 12, "reported_tcb", f"{key.tcb} (certificate)", f"{reported}")
    check_guest(checks, report, authentic.product, values)

    # 22. what the report commits to
    require_commitment(checks, 22, report_data, report.report_data)
    return Verdict(
        tee=values.tee,
        product=authentic.product,
        measurement=report.measurement,
        report_data=None if report_data is None else report.report_data,
        claims=(*report_claims(report, authentic.product, key), *endorsement_claims(key, authentic.lists)),
        checks=checks.made(),
        warnings=_warnings(authentic, values),
        simulated=authentic.simulated,
    )


def check_guest(checks: Checklist, report: Report, product: Product, values: SnpReferenceValues) -> None:
    """Lines 13 to 21: what the report says of firmware, machine and guest, whoever signed it."""
    _check_tcb(checks, report, product, values)
    _check_policy(checks, report, values)
    _check_platform(checks, report, values)

    # 18. privilege level
    checks.require(report.vmpl == values.vmpl, 18, "vmpl", str(values.vmpl), str(report.vmpl))

    # 19. measurement
    accepted = " or ".join(measurement.hex() for measurement in values.measurements)
    covers = f" (covers: {values.covers})"
    checks.require(
        report.measurement in values.measurements, 19, "measurements", accepted + covers, report.measurement.hex()
    )

    # 20. host data
    checks.require(
        report.host_data == values.host_data, 20, "host_data", values.host_data.hex(), report.host_data.hex()
    )

    _check_id_block(checks, report, values)


def _warnings(authentic: AuthenticReport, values: SnpReferenceValues) -> tuple[str, ...]:
    milan = (MILAN_WARNING,) if authentic.product is Product.MILAN else ()
    return (*milan, *coverage_warnings(values.covers))


def _check_revocation(checks: Checklist, authentic: AuthenticReport, values: SnpReferenceValues) -> None:
    # 8. a list that did not come along can't be fetched here
    found = f"{len(authentic.lists)} along with the report" if authentic.lists else "none"
    if values.revocation is Revocation.CRL and not authentic.lists:
        error = EvidenceUncheckable("revocation", expected=f"a revocation list of ARK-{authentic.product}", found=found)
        raise checks.failed(error, 8)
    expected = "a revocation list" if values.revocation is Revocation.CRL else f"none needed ({values.revocation})"
    checks.passed(8, "revocation", expected, found)


def _check_product(checks: Checklist, authentic: AuthenticReport, values: SnpReferenceValues) -> None:
    # 9. three sources, one product
    product, cpuid = authentic.product, authentic.report.cpuid
    checks.require(authentic.key.product is product, 9, "productName", product, authentic.key.product)
    if cpuid is not None:
        found = product_of_cpuid(cpuid.family, cpuid.model)
        checks.require(
            found is product, 9, "cpuid", product, f"{found or 'unknown'} ({cpuid.family:#x}/{cpuid.model:#x})"
        )
    checks.require(product in values.products, 9, "products", " or ".join(values.products), product)


def _check_signing_key(checks: Checklist, authentic: AuthenticReport, values: SnpReferenceValues) -> None:
    # 10. whose key it may be
    key = authentic.key
    checks.require(key.kind in values.signing_keys, 10, "signing_keys", " or ".join(values.signing_keys), key.kind)
    if key.csp_id is not None:
        checks.require(key.csp_id in values.csp_ids, 10, "csp_ids", " or ".join(values.csp_ids), key.csp_id)


def _check_chip(checks: Checklist, authentic: AuthenticReport, values: SnpReferenceValues) -> None:
    # 11. which chip it is; a masked CHIP_ID can't be compared with a VCEK's, so only a VLEK may have one
    report, key = authentic.report, authentic.key
    found = report.chip_id.hex()
    if key.kind is SigningKey.VCEK:
        checks.require(not report.mask_chip_key, 11, "key_info.mask_chip_key", "0", str(int(report.mask_chip_key)))
        checks.require(any(report.chip_id), 11, "chip_id", "an identity, not zero bytes", found)
        checks.require(key.chip_id == report.chip_id, 11, "hwID", found, (key.chip_id or b"").hex())
    if values.chip_ids == ANY_CHIP:
        checks.passed(11, "chip_ids", "any chip", found if any(report.chip_id) else "zero bytes (masked)")
    else:
        accepted = " or ".join(chip_id.hex() for chip_id in values.chip_ids)
        checks.require(report.chip_id in values.chip_ids, 11, "chip_ids", accepted, found)


def _check_tcb(checks: Checklist, report: Report, product: Product, values: SnpReferenceValues) -> None:
    with checks.line(13):
        reported = TcbVersion.parse(report.reported_tcb, product, "reported_tcb")
        current = TcbVersion.parse(report.current_tcb, product, "current_tcb")
        committed = TcbVersion.parse(report.committed_tcb, product, "committed_tcb")
        launch = TcbVersion.parse(report.launch_tcb, product, "launch_tcb")

    # 13. an honest order, and no firmware that the host can still roll back
    ceiling = f"at most CURRENT {current}"
    checks.require(not current.below(reported), 13, "reported_tcb", ceiling, f"{reported}")
    checks.require(not current.below(committed), 13, "committed_tcb", ceiling, f"{committed}")
    if not values.provisional_firmware:
        checks.require(
            committed == current, 13, "provisional_firmware", f"COMMITTED = CURRENT {current}", f"{committed}"
        )
        checks.require(
            report.committed_version == report.current_version,
            13,
            "provisional_firmware",
            f"committed version = current version {report.current_version}",
            f"{report.committed_version}",
        )

    # 14. the minimum, in all four places
    minimum = values.minimum_tcb_of(product)
    for name, version in (("reported", reported), ("current", current), ("committed", committed), ("launch", launch)):
        below = ", ".join(version.below(minimum))
        checks.require(
            not below,
            14,
            "minimum_tcb",
            f"at least {minimum} as {name}",
            f"{version}" + (f", too low in {below}" * bool(below)),
        )


def _check_policy(checks: Checklist, report: Report, values: SnpReferenceValues) -> None:
    # 15. what the host may do to the guest
    found = describe_policy(report.policy)
    for flag in (PolicyFlag.DEBUG, PolicyFlag.MIGRATE_MA):
        is_set = flag.is_set(report.policy)
        checks.require(not is_set, 15, f"policy.{flag.name.lower()}", "0", f"{int(is_set)} in {found}")
    checks.require(
        report.report_id_ma == NO_MIGRATION_AGENT, 15, "report_id_ma", "no migration agent", report.report_id_ma.hex()
    )
    accepted = " or ".join(describe_policy(policy) for policy in values.policies)
    checks.require(report.policy in values.policies, 15, "policies", accepted, found)


def _check_platform(checks: Checklist, report: Report, values: SnpReferenceValues) -> None:
    # 16. what the machine does
    info = report.platform_info
    checks.require(not info & ~_KNOWN_PLATFORM_BITS, 16, "platform_info", "no unknown bits", f"{info:#x}")
    missing = [flag for flag in values.platform_required if not flag.is_set(info)]
    required = ", ".join(values.platform_required) or "none"
    checks.require(not missing, 16, "platform_required", required, describe_platform(info))

    # 17. what the firmware mitigates; versions before 5 cannot say
    for name, vector in (("launch", report.launch_mitigations), ("current", report.current_mitigations)):
        lacking = values.mitigations_required & ~(vector or 0)
        expected = f"bits {values.mitigations_required:#x} at {name}"
        found = "no vector in this version" if vector is None else f"{vector:#x}"
        checks.require(not lacking, 17, "mitigations_required", expected, found)


def _check_id_block(checks: Checklist, report: Report, values: SnpReferenceValues) -> None:
    # 21. who signed the launch, if anybody
    block = values.id_block
    expected = {
        "id_key_digest": block.id_key_digest if block else bytes(48),
        "author_key_digest": block.author_key_digest if block else bytes(48),
        "family_id": block.family_id if block else bytes(16),
        "image_id": block.image_id if block else bytes(16),
    }
    for name, value in expected.items():
        found = getattr(report, name)
        checks.require(found == value, 21, f"id_block.{name}", value.hex(), found.hex())
    has_author = any(report.author_key_digest)
    checks.require(
        report.author_key_enabled is has_author,
        21,
        "key_info.author_key_en",
        f"{int(has_author)}, as AUTHOR_KEY_DIGEST says",
        str(int(report.author_key_enabled)),
    )
    minimum = block.minimum_guest_svn if block else 0
    in_range = report.guest_svn >= minimum if block else report.guest_svn == 0
    expected_svn = f"at least {minimum}" if block else "0 without an ID block"
    checks.require(in_range, 21, "id_block.minimum_guest_svn", expected_svn, str(report.guest_svn))


def _roots_of(authentic: AuthenticReport) -> str:
    return "simulated" if authentic.simulated else "vendor"
