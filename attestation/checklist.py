"""A numbered checklist: each line raises or is kept, so that a verdict, or a refusal, can show what was checked."""

from collections.abc import Iterator
from contextlib import contextmanager

from attestation.check import Check
from attestation.errors import AttestationError


class Checklist:
    """Collects passed checks; the first one that fails raises `failure` with the line's number, name and values.

    `before` are the lines of the floors below.
    """

    def __init__(self, failure: type[AttestationError], before: tuple[Check, ...] = ()) -> None:
        self._failure = failure
        self._checks = list(before)

    def require(self, condition: bool, number: int, name: str, expected: str, found: str) -> None:
        """Raise unless the condition holds; keep the line if it does."""
        if not condition:
            raise self.failed(self._failure(name, expected=expected, found=found), number)
        self.passed(number, name, expected, found)

    def failed(self, error: AttestationError, number: int) -> AttestationError:
        """An error to raise for a line, whatever its kind, which then knows what was checked before."""
        error.number, error.passed = number, self.made()
        return error

    @contextmanager
    def line(self, number: int) -> Iterator[None]:
        """Whatever is raised inside, of any kind, knows this line's number and what was checked before."""
        try:
            yield
        except AttestationError as error:
            if error.number is None:
                self.failed(error, number)
            raise

    def passed(self, number: int, name: str, expected: str, found: str) -> None:
        """Keep a line whose check raises by itself."""
        self._checks.append(Check(number=number, name=name, expected=expected, found=found))

    def made(self) -> tuple[Check, ...]:
        """The lines so far, in the order in which they were checked."""
        return tuple(self._checks)
