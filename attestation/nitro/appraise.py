"""The upper floor: does an authentic document say what we ask for? From an authentic document to a verdict.

Trusts that `authenticate` made its input, and the reference values. An enclave in debug mode is refused always.

The checklist continues that of `authenticate`, by the numbers above each block:

 6. no debug mode: PCR0 is not zero;
 7. the document is not from the future, and not older than the maximum age;
 8. PCR0, the image; 9. PCR1, kernel and boot RAM disk; 10. PCR2, the application;
11. PCR3, the role; 12. PCR4, the instance; 13. PCR8, the image's signer;
14. the enclave's module id;
15. nonce: there, or not;
16. public key: there, or not;
17. user data: equal to what we expect, in all bytes, and not all zero.

Sources: aws-nitro-enclaves-nsm-api docs/attestation_process.md; AWS Nitro Enclaves user guide, "Cryptographic
attestation".
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from attestation.checklist import Checklist
from attestation.commitment import require_commitment
from attestation.errors import EvidenceRefused
from attestation.nitro.authenticate import AuthenticDocument
from attestation.nitro.claims import PRODUCT, claims_of, is_debug
from attestation.nitro.reference_values import ANY, NitroReferenceValues, Presence
from attestation.terms import coverage_warnings
from attestation.verdict import Verdict

CLOCK_SKEW: Final = timedelta(seconds=30)
"""How far the hypervisor's clock may be ahead of ours."""
_REGISTERS = ((8, 0), (9, 1), (10, 2), (11, 3), (12, 4), (13, 8))


def appraise(authentic: AuthenticDocument, values: NitroReferenceValues, report_data: bytes | None) -> Verdict:
    """Compare an authentic document with one set of reference values and the user data that it must carry, if given.

    Raises `EvidenceRefused` naming the first field that differs.
    """
    document = authentic.document
    checks = Checklist(EvidenceRefused, authentic.checks)

    # 6. debug mode
    found = "PCR0 zero: started in debug mode" if is_debug(document) else "PCR0 measured"
    checks.require(not is_debug(document), 6, "debug", "an enclave that was not started in debug mode", found)

    _check_age(checks, authentic, values)

    # 8 to 13. the registers
    for number, index in _REGISTERS:
        _check_register(checks, number, f"pcr{index}", getattr(values, f"pcr{index}"), document.pcrs.get(index))

    # 14. which enclave
    module_ids = values.module_ids
    if module_ids == ANY:
        checks.passed(14, "module_ids", "any enclave", document.module_id)
    else:
        accepted = " or ".join(module_ids)
        checks.require(document.module_id in module_ids, 14, "module_ids", accepted, document.module_id)

    # 15 and 16. what else it holds
    _check_presence(checks, 15, "nonce", values.nonce, document.nonce)
    _check_presence(checks, 16, "public_key", values.public_key, document.public_key)

    # 17. what the document commits to
    require_commitment(checks, 17, report_data, document.user_data or b"")
    return Verdict(
        tee=values.tee,
        product=PRODUCT,
        measurement=document.pcrs[0],
        report_data=None if report_data is None else document.user_data,
        claims=claims_of(document),
        checks=checks.made(),
        warnings=coverage_warnings(values.covers),
        simulated=False,
    )


def _check_age(checks: Checklist, authentic: AuthenticDocument, values: NitroReferenceValues) -> None:
    # 7. fresh at the time given
    now = authentic.now
    made = datetime.fromtimestamp(authentic.document.timestamp_ms / 1000, UTC)
    checks.require(made <= now + CLOCK_SKEW, 7, "timestamp", f"none after {now.isoformat()}", made.isoformat())
    oldest = now - timedelta(seconds=values.maximum_age_seconds)
    checks.require(
        made >= oldest,
        7,
        "maximum_age_seconds",
        f"{values.maximum_age_seconds}, made {oldest.isoformat()} or later",
        made.isoformat(),
    )


def _check_register(
    checks: Checklist, number: int, name: str, accepted: tuple[bytes, ...] | Literal["any"], found: bytes | None
) -> None:
    shown = "not in the document" if found is None else found.hex()
    if accepted == ANY:
        checks.passed(number, name, "any", shown)
    else:
        checks.require(found in accepted, number, name, " or ".join(value.hex() for value in accepted), shown)


def _check_presence(checks: Checklist, number: int, name: str, accepted: Presence, found: bytes | None) -> None:
    shown = "none" if found is None else found.hex()
    checks.require(accepted is Presence.ANY or found is None, number, name, accepted, shown)
