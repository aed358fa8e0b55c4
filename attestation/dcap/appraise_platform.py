"""The upper floor for the machine under a TD or an enclave, the same for both.

It continues the checklist of `authenticate`, by the numbers above each block:

15. Intel's lists: an accepted edition, an accepted status, no advisory that is not accepted;
16. the machine: of an accepted kind, or an accepted one; configured as accepted.
"""

from attestation.checklist import Checklist
from attestation.dcap.authenticate import AuthenticQuote
from attestation.dcap.intel_json import TcbStatus
from attestation.dcap.reference_values import ANY, BytesOrAny, PlatformReferenceValues
from attestation.terms import Covers, coverage_warnings

_WORDS = {True: "true", False: "false", None: "not said by the certificate"}


def appraise_platform(checks: Checklist, authentic: AuthenticQuote, values: PlatformReferenceValues) -> None:
    """Compare the platform with its reference values; raises `EvidenceRefused` naming the first that differs."""
    # 15. how it stands
    number, minimum = authentic.tcb_info.tcb_evaluation_data_number, values.minimum_tcb_evaluation_data_number
    checks.require(number >= minimum, 15, "minimum_tcb_evaluation_data_number", f"at least {minimum}", str(number))
    standing = authentic.standing
    checks.require(
        standing.status in values.tcb_statuses, 15, "tcb_statuses", " or ".join(values.tcb_statuses), standing.status
    )
    others = [name for name in standing.advisory_ids if name not in values.advisory_ids]
    accepted = f"none but {', '.join(values.advisory_ids)}" if values.advisory_ids else "none"
    found = ", ".join(standing.advisory_ids) or "none"
    checks.require(not others, 15, "advisory_ids", accepted, found)

    # 16. which it is
    pck = authentic.chain.identity
    require_listed(checks, 16, "fmspcs", values.fmspcs, pck.fmspc)
    require_listed(checks, 16, "ppids", values.ppids, pck.ppid)
    for name, allowed, value in (
        ("dynamic_platform", values.dynamic_platform, pck.dynamic_platform),
        ("cached_keys", values.cached_keys, pck.cached_keys),
        ("smt", values.smt, pck.smt),
    ):
        expected = "true, false or not said" if allowed else "false"
        checks.require(allowed or value is False, 16, name, expected, _WORDS[value])


def require_listed(checks: Checklist, number: int, name: str, accepted: BytesOrAny, found: bytes) -> None:
    """Raise `EvidenceRefused` unless a value is on its allow-list."""
    if isinstance(accepted, str):
        checks.passed(number, name, ANY, found.hex())
        return
    checks.require(found in accepted, number, name, " or ".join(value.hex() for value in accepted), found.hex())


def warnings_of(authentic: AuthenticQuote, covers: Covers) -> tuple[str, ...]:
    """Sentences about what was accepted although it is weak."""
    warnings = list(coverage_warnings(covers))
    standing = authentic.standing
    if standing.status is not TcbStatus.UP_TO_DATE:
        known = f" ({', '.join(standing.advisory_ids)})" if standing.advisory_ids else ""
        warnings.append(f"Intel calls this platform {standing.status}{known}, which the reference values accept")
    return tuple(warnings)
