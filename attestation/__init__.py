"""Who is on the other end? Evidence in, verdict out.

Pure: no network, no clock, no file but the roots that ship with the package. `collect` is the one part with effects.
"""

from attestation.appraisal import appraise
from attestation.check import Check
from attestation.errors import (
    AttestationError,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    ReferenceValuesError,
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
    "ReferenceValues",
    "ReferenceValuesError",
    "SnpReferenceValues",
    "Tee",
    "Verdict",
    "appraise",
]
