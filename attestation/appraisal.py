"""The one way from evidence to a verdict: parse, authenticate, appraise, or raise.

Pure: no network, no clock, no root of trust from the peer. Which roots may vouch follows from the reference values'
`tee`, which the agreement fixes, and never from what the evidence says of itself.
"""

from collections.abc import Sequence
from datetime import datetime

from attestation.errors import EvidenceRefused, ReferenceValuesError
from attestation.evidence import Evidence
from attestation.reference_values import ReferenceValues
from attestation.report_data import REPORT_DATA_BYTES
from attestation.simulated.roots import simulated_roots
from attestation.snp.appraise import appraise as appraise_snp
from attestation.snp.authenticate import authenticate
from attestation.snp.report import SignedReport
from attestation.snp.roots import vendor_roots
from attestation.verdict import Verdict

_ROOTS = {False: vendor_roots, True: simulated_roots}


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
    if now.tzinfo is None:
        raise ValueError("now: expected an aware time, found a naive one")
    simulated = _all_simulated_or_none(reference_values)
    candidates = [values for values in reference_values if values.tee is evidence.tee]
    if not candidates:
        accepted = " or ".join(sorted({values.tee for values in reference_values}))
        raise EvidenceRefused("tee", expected=accepted, found=evidence.tee)
    signed_report = SignedReport.parse(evidence.report)
    authentic = authenticate(signed_report, evidence.endorsements, _ROOTS[simulated](), now)
    refusals: list[EvidenceRefused] = []
    for values in candidates:
        try:
            return appraise_snp(authentic, values, report_data)
        except EvidenceRefused as refusal:
            refusals.append(refusal)
    raise _joined(refusals)


def _all_simulated_or_none(reference_values: Sequence[ReferenceValues]) -> bool:
    kinds = {values.tee.simulated for values in reference_values}
    if not kinds:
        raise ReferenceValuesError("reference values", expected="at least one", found="none")
    if len(kinds) > 1:
        raise ReferenceValuesError("tee", expected="simulated alone, or none of it", found="simulated beside others")
    return kinds.pop()


def _joined(refusals: list[EvidenceRefused]) -> EvidenceRefused:
    if len(refusals) == 1:
        return refusals[0]
    return EvidenceRefused(
        "reference values",
        expected=f"one of {len(refusals)} to accept",
        found="; ".join(f"[{index}] {refusal}" for index, refusal in enumerate(refusals, 1)),
    )
