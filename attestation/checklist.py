"""A numbered checklist: each line raises or is kept, so that a verdict can show what was checked."""

from attestation.errors import AttestationError
from attestation.verdict import Check


class Checklist:
    """Collects passed checks; the first one that fails raises `failure` with the line's name and values."""

    def __init__(self, failure: type[AttestationError]) -> None:
        self._failure = failure
        self._checks: list[Check] = []

    def require(self, condition: bool, number: int, name: str, expected: str, found: str) -> None:
        """Raise unless the condition holds; keep the line if it does."""
        if not condition:
            raise self._failure(name, expected=expected, found=found)
        self.passed(number, name, expected, found)

    def passed(self, number: int, name: str, expected: str, found: str) -> None:
        """Keep a line whose check raises by itself."""
        self._checks.append(Check(number=number, name=name, expected=expected, found=found))

    def made(self) -> tuple[Check, ...]:
        """The lines so far, in the order in which they were checked."""
        return tuple(self._checks)
