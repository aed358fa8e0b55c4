"""One line of a verifier's checklist."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check as it was made: its number in the verifier's source, what was asked for, what was there."""

    number: int
    name: str
    expected: str
    found: str
