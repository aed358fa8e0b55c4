"""How judging evidence ends, for scripts and for people."""

from dataclasses import dataclass

from attestation.errors import (
    AttestationError,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way in which it ends: our word, the tier of EAR's `ear.status`, the exit code."""

    verdict: str
    status: str
    exit_code: int


ACCEPTED = Outcome("accepted", "affirming", 0)
ACCEPTED_WITH_WARNINGS = Outcome("accepted", "warning", 0)
_FAILED = {
    EvidenceMalformed: Outcome("malformed", "contraindicated", 3),
    EvidenceNotAuthentic: Outcome("not-authentic", "contraindicated", 4),
    EvidenceRefused: Outcome("refused", "contraindicated", 5),
    EvidenceUncheckable: Outcome("uncheckable", "none", 6),
}


def outcome_of(error: AttestationError) -> Outcome:
    """How an error ends it."""
    return next(outcome for kind, outcome in _FAILED.items() if isinstance(error, kind))


def exit_code_of(error: AttestationError) -> int:
    """3 malformed, 4 not authentic, 5 refused, 6 could not be checked."""
    return outcome_of(error).exit_code
