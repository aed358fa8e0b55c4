"""Who is on the other end? Evidence in, verdict out.

Pure: no network, no clock, no file but the roots that ship with the package. `collect` is the one part with effects.
"""

from attestation.appraisal import appraise, appraise_again
from attestation.check import Check
from attestation.errors import (
    AttestationError,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    EvidenceWithdrawn,
    ReferenceValuesError,
    RevocationUnpublished,
)
from attestation.evidence import Evidence
from attestation.reference_values import ReferenceValues, SnpReferenceValues
from attestation.tee import Tee
from attestation.verdict import Verdict

__all__ = [
    "AttestationError",
    "Check",
    "Evidence",
    "EvidenceMalformed",
    "EvidenceNotAuthentic",
    "EvidenceRefused",
    "EvidenceUncheckable",
    "EvidenceWithdrawn",
    "ReferenceValues",
    "ReferenceValuesError",
    "RevocationUnpublished",
    "SnpReferenceValues",
    "Tee",
    "Verdict",
    "appraise",
    "appraise_again",
]
