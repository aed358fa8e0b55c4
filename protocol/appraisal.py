"""Where a party's evidence is held against the agreement: the one place, for the enclave, the silos and the auditor.

Nothing is fetched and nothing comes from the peer but the evidence: the reference values are the agreement's, the
`report_data` is computed here from what the caller himself saw.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from attestation import (
    AttestationError,
    Evidence,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceUncheckable,
    Tee,
    Verdict,
    appraise,
)
from attestation.reference_values import ReferenceValues
from protocol.agreement import Agreement, SiloTerms
from protocol.enrolment import Enrol
from protocol.errors import RefusalCode, refuse


def appraise_appliance(evidence: bytes, agreement: Agreement, report_data: bytes, now: int) -> Verdict:
    """The appliance's evidence (encoded `Evidence`) at `now` (unix seconds); raises `RefusedError` (evidence-…)."""
    remedy = "do not send anything to this appliance; compare its evidence with [[appliance.tee]] in the agreement"
    return _appraise(evidence, agreement.appliance, report_data, now, "the appliance's evidence", remedy)


def appraise_silo(enrol: Enrol, terms: SiloTerms, now: int) -> Tee:
    """What vouches for a silo: the TEE of its evidence, or NONE where the agreement says so.

    Raises `RefusedError` (evidence-…).
    """
    references = terms.reference_values
    remedy = f"compare {terms.name}'s TEE with its [[silo.tee]] in the agreement"
    if enrol.evidence is not None:
        report_data = enrol.expected_report_data()
        return _appraise(enrol.evidence, references, report_data, now, f"{terms.name}'s evidence", remedy).tee
    if not terms.needs_evidence:
        return Tee.NONE
    accepted = " or ".join(sorted({str(item.tee) for item in references}))
    raise refuse(RefusalCode.EVIDENCE_REFUSED, expected=f"evidence of {accepted}", found="no evidence", remedy=remedy)


def _appraise(
    data: bytes, references: Sequence[ReferenceValues], report_data: bytes, now: int, whose: str, remedy: str
) -> Verdict:
    try:
        evidence = Evidence.parse(data)
        if not references:
            raise refuse(
                RefusalCode.EVIDENCE_REFUSED, expected="no evidence", found=f"{evidence.tee} evidence", remedy=remedy
            )
        return appraise(evidence, references, report_data, datetime.fromtimestamp(now, UTC))
    except AttestationError as error:
        raise refuse(
            _code_of(error), expected=f"{whose} to be what the agreement accepts", found=str(error), remedy=remedy
        ) from error


def _code_of(error: AttestationError) -> RefusalCode:
    if isinstance(error, EvidenceMalformed):
        return RefusalCode.EVIDENCE_MALFORMED
    if isinstance(error, EvidenceNotAuthentic):
        return RefusalCode.EVIDENCE_NOT_AUTHENTIC
    if isinstance(error, EvidenceUncheckable):
        return RefusalCode.EVIDENCE_UNCHECKABLE
    return RefusalCode.EVIDENCE_REFUSED
