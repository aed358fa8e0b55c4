"""What can be wrong with evidence, told apart by what the caller may conclude from it.

Every error is a refusal. Each names the field, what was expected and what was found, in words that are safe to
show to the party that was refused: nothing in an appraisal is secret.
"""

from attestation.check import Check


class AttestationError(Exception):
    """Base of everything that this package raises about evidence.

    `field` names the claim or the check; `expected` and `found` are its two values in words. Where a numbered check
    failed, `number` is its number and `passed` are the checks before it.
    """

    def __init__(self, field: str, *, expected: str, found: str) -> None:
        super().__init__(f"{field}: expected {expected}, found {found}")
        self.field = field
        self.expected = expected
        self.found = found
        self.number: int | None = None
        self.passed: tuple[Check, ...] = ()


class EvidenceMalformed(AttestationError):
    """The bytes are not in the form that their format prescribes. Parsers of evidence raise this and nothing else."""


class EvidenceNotAuthentic(AttestationError):
    """Well-formed, but no pinned root vouches for it at this time: signature, chain, dates or kind of key are wrong."""


class EvidenceWithdrawn(EvidenceNotAuthentic):
    """Its vendor no longer stands by it: a certificate of its chain, or a part of its platform, is off his lists."""


class EvidenceRefused(AttestationError):
    """Authentic, and not what the reference values ask for."""


class EvidenceUncheckable(AttestationError):
    """What a check needs is missing (no endorsement came with the report). Not known to be wrong, and refused."""


class RevocationUnpublished(EvidenceUncheckable):
    """Nobody publishes lists of what was withdrawn: nothing new can be learned about such evidence, ever."""


class ReferenceValuesError(AttestationError, ValueError):
    """Our own side is at fault: the reference values are empty, contradictory or out of range."""
