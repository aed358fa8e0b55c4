"""The one way from evidence to a verdict: parse, authenticate, appraise, or raise.

Pure: no network, no clock, no root of trust from the peer. Which roots may vouch follows from the reference values'
`tee`, which the agreement fixes, and never from what the evidence says of itself.
"""

from collections.abc import Sequence
from datetime import datetime

from attestation.errors import AttestationError, EvidenceRefused, ReferenceValuesError
from attestation.evidence import Evidence
from attestation.families import FAMILIES
from attestation.reference_values import ReferenceValues
from attestation.report_data import REPORT_DATA_BYTES
from attestation.verdict import Verdict


def appraise(
    evidence: Evidence, reference_values: Sequence[ReferenceValues], report_data: bytes, now: datetime
) -> Verdict:
    """The verdict on evidence that one of `reference_values` accepts, committed to `report_data`, at `now`.

    `report_data` are the 64 bytes that we computed ourselves (`attestation.report_data`); `now` is an aware time, never
    earlier than the newest signed time that the caller knows.

    Raises `EvidenceMalformed`, `EvidenceNotAuthentic`, `EvidenceUncheckable` or `EvidenceRefused`. If several reference
    values are of the evidence's kind, the refusal says what each of them missed. Raises `ReferenceValuesError` (a
    `ValueError`) if there are none, or simulated ones beside others, and `ValueError` for a report data of another
    length or a naive time: those are our own mistakes.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise ValueError(f"report_data: expected {REPORT_DATA_BYTES} bytes, found {len(report_data)}")
    return judge(evidence, reference_values, report_data, now)


def appraise_again(
    evidence: Evidence,
    endorsements: Sequence[bytes],
    reference_values: Sequence[ReferenceValues],
    report_data: bytes,
    now: datetime,
) -> Verdict:
    """The verdict on evidence that was accepted once, at a later `now`, by what its vendor publishes then.

    `endorsements` are whatever the caller has of that: lists and collateral of any kind, of which those are taken that
    concern this evidence, in place of those that it brought. Raises as `appraise` does. `EvidenceWithdrawn` and
    `EvidenceRefused` say that it would not be accepted any more; everything else that it could not be checked, for
    which `RevocationUnpublished` says why it never can.
    """
    renewed = FAMILIES[evidence.tee].renewed(evidence, endorsements, now)
    return appraise(renewed, reference_values, report_data, now)


def judge(
    evidence: Evidence, reference_values: Sequence[ReferenceValues], report_data: bytes | None, now: datetime
) -> Verdict:
    """As `appraise`, for evidence that somebody has at hand: `report_data` of any length, or None to compare none.

    A verdict without that comparison says nothing about who is on the other end. Nothing that parties decide upon
    calls this.
    """
    if now.tzinfo is None:
        raise ValueError("now: expected an aware time, found a naive one")
    _require_all_simulated_or_none(reference_values)
    candidates = [values for values in reference_values if values.tee is evidence.tee]
    if not candidates:
        accepted = " or ".join(sorted({values.tee for values in reference_values}))
        raise EvidenceRefused("tee", expected=accepted, found=evidence.tee)
    authentic = FAMILIES[evidence.tee].authenticate(evidence, now)
    refusals: list[AttestationError] = []
    for values in candidates:
        try:
            return authentic.appraise(values, report_data)
        except AttestationError as refusal:
            refusals.append(refusal)
    raise _joined(refusals)


def _require_all_simulated_or_none(reference_values: Sequence[ReferenceValues]) -> None:
    kinds = {values.tee.simulated for values in reference_values}
    if not kinds:
        raise ReferenceValuesError("reference values", expected="at least one", found="none")
    if len(kinds) > 1:
        raise ReferenceValuesError("tee", expected="simulated alone, or none of it", found="simulated beside others")


def _joined(refusals: list[AttestationError]) -> AttestationError:
    """What all of them missed; the kind is that of the first refusal proper, which came furthest."""
    if len(refusals) == 1:
        return refusals[0]
    kind = next((type(refusal) for refusal in refusals if isinstance(refusal, EvidenceRefused)), type(refusals[0]))
    joined = kind(
        "reference values",
        expected=f"one of {len(refusals)} to accept",
        found="; ".join(f"[{index}] {refusal}" for index, refusal in enumerate(refusals, 1)),
    )
    joined.passed = refusals[0].passed
    return joined
