"""Where an audit's steps put down what they find, so that one damaged file doesn't hide the next.

Trusts nothing; called by the steps of `audit.verify`. Bounded: a store with a million bad files makes a short report.
"""

from audit.report import AuditVerdict, CheckState, Finding, Line

MAXIMUM_FINDINGS = 200


class Findings:
    """Collects findings; the verdict follows from what is here."""

    def __init__(self) -> None:
        self.divergence: Finding | None = None
        self.damage: list[Finding] = []
        self.missing: list[Finding] = []
        self.information: list[str] = []
        self.unlisted = 0
        self._failed: set[Line] = set()
        self._incomplete: set[Line] = set()

    @property
    def verdict(self) -> AuditVerdict:
        """FAIL if anything contradicts, else INCOMPLETE if anything is missing, else PASS."""
        if self._failed:
            return AuditVerdict.FAIL
        return AuditVerdict.INCOMPLETE if self._incomplete else AuditVerdict.PASS

    def state(self, line: Line, *, reached: bool) -> CheckState:
        """How a line of the checklist went."""
        if line in self._failed:
            return CheckState.FAILED
        if line in self._incomplete:
            return CheckState.INCOMPLETE
        return CheckState.PASSED if reached else CheckState.NOT_REACHED

    def diverges(self, line: Line, problem: str, *, entry: int, kind: str | None) -> None:
        """The first entry that doesn't follow; the replay ends there."""
        self._failed.add(line)
        if self.divergence is None:
            self.divergence = Finding(line=line, entry=entry, kind=kind, problem=problem)

    def damaged(self, line: Line, resource: str, problem: str) -> None:
        """A resource that contradicts the log, or itself."""
        self._failed.add(line)
        self._list(self.damage, Finding(line=line, resource=resource, problem=problem))

    def uncheckable(
        self,
        line: Line,
        problem: str,
        *,
        resource: str | None = None,
        entry: int | None = None,
        kind: str | None = None,
    ) -> None:
        """What should have been checked and could not be."""
        self._incomplete.add(line)
        self._list(self.missing, Finding(line=line, resource=resource, entry=entry, kind=kind, problem=problem))

    def note(self, text: str) -> None:
        """Something worth knowing that is no fault."""
        if len(self.information) < MAXIMUM_FINDINGS:
            self.information.append(text)
        else:
            self.unlisted += 1

    def _list(self, findings: list[Finding], finding: Finding) -> None:
        if finding in findings:
            return
        if len(findings) < MAXIMUM_FINDINGS:
            findings.append(finding)
        else:
            self.unlisted += 1
