"""What an audit says: the verdict, where it is first broken, what was checked, and what was not.

Frozen values, made by `audit.verify` alone. Nothing here trusts or checks anything; texts that came out of the store
are escaped by whoever put them in.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from audit.as_of import AsOf
from audit.kept import Kept
from audit.quorum import Cosignature
from protocol.canonical import Json
from protocol.fields import format_digest

PROTECTS_NOTHING = "simulated: protects nothing"


class AuditVerdict(StrEnum):
    """PASS: all that could be checked was, and holds. FAIL: something contradicts. INCOMPLETE: something is missing."""

    PASS = "PASS"  # noqa: S105  not a password
    FAIL = "FAIL"
    INCOMPLETE = "INCOMPLETE"

    @property
    def exit_code(self) -> int:
        """0, 1 and 2: what `strongroom audit verify` ends with."""
        return {AuditVerdict.PASS: 0, AuditVerdict.FAIL: 1, AuditVerdict.INCOMPLETE: 2}[self]


class Line(IntEnum):
    """The lines of the checklist in `audit.verify`."""

    AGREEMENT = 1
    FILES = 2
    TRUST = 3
    ENTRIES = 4
    EVIDENCE = 5
    RELEASES = 6
    OBJECTS = 7


class CheckState(StrEnum):
    """How one line of the checklist went."""

    PASSED = "passed"
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or could not be checked: what was expected and found, and where.

    `entry` is an index and `kind` that entry's kind, `resource` a file of the store; a finding has one of them or both.
    """

    line: Line
    problem: str
    entry: int | None = None
    kind: str | None = None
    resource: str | None = None

    def __str__(self) -> str:
        places = []
        if self.entry is not None:
            places.append(f"entry {self.entry}" + (f" ({self.kind})" if self.kind else ""))
        if self.resource is not None:
            places.append(self.resource)
        return ": ".join([*places, self.problem])

    def to_json(self) -> Json:
        return {
            "check": int(self.line),
            "entry": self.entry,
            "kind": self.kind,
            "resource": self.resource,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLine:
    """One line of the checklist, in words, and how it went."""

    line: Line
    name: str
    state: CheckState
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was replayed. `refusals` are enrolments'; `updates_used` counts the members of all published cohorts."""

    entries: int
    checkpoints: int
    boots: int
    admissions: int
    refusals: int
    rounds_published: int
    attempts_abandoned: int
    updates_used: int
    updates_refused: int
    control_resets: int
    evidence_appraised: int
    objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestCheckpoint:
    """The log's newest signed head, the owners who cosigned it, one vote each, and the further witnesses who did.

    `quorum_size` is the size of the newest checkpoint that a quorum cosigned, 0 if none was: what lies beyond could
    still be taken back without any silo noticing.
    """

    size: int
    root: bytes
    cosignatures: tuple[Cosignature, ...]
    witnesses: tuple[Cosignature, ...]
    quorum_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The whole verdict on one log.

    `divergence`: the first entry that does not follow or, if all do, the first damaged resource; None unless FAIL.
    `damage`: every resource that contradicts the log. `missing`: what could not be checked and should have been.
    `not_checked`: what no audit of a log can tell, or this one was not asked to. `kept`: what silos handed in, and
    `as_of`: how the evidence stands as of another day; None if the audit was given nothing of the kind. `agreement` is
    the digest (32 bytes) of the auditor's own copy.
    """

    verdict: AuditVerdict
    simulated: bool
    agreement: bytes
    origin: str
    divergence: Finding | None
    damage: tuple[Finding, ...]
    missing: tuple[Finding, ...]
    information: tuple[str, ...]
    checks: tuple[CheckLine, ...]
    not_checked: tuple[str, ...]
    counts: Counts
    newest: NewestCheckpoint | None
    kept: Kept | None = None
    as_of: AsOf | None = None

    @property
    def line(self) -> str:
        """The verdict in one line: with what is in doubt as of another day, and marked if the TEEs are simulated."""
        doubt = f", {self.as_of.words}" if self.as_of is not None and self.as_of.words else ""
        return f"{self.verdict}{doubt} ({PROTECTS_NOTHING})" if self.simulated else f"{self.verdict}{doubt}"

    @property
    def exit_code(self) -> int:
        return self.verdict.exit_code

    def to_json(self) -> dict[str, Json]:
        """The report for scripts: digests as `sha256:<hex>`, times in unix seconds."""
        newest = self.newest
        return {
            "verdict": str(self.verdict),
            "simulated": self.simulated,
            "agreement": format_digest(self.agreement),
            "origin": self.origin,
            "divergence": None if self.divergence is None else self.divergence.to_json(),
            "damage": [finding.to_json() for finding in self.damage],
            "missing": [finding.to_json() for finding in self.missing],
            "information": list(self.information),
            "checks": [
                {"number": int(check.line), "name": check.name, "state": str(check.state), "detail": check.detail}
                for check in self.checks
            ],
            "not_checked": list(self.not_checked),
            "counts": {name: getattr(self.counts, name) for name in Counts.__slots__},
            "newest": None
            if newest is None
            else {
                "size": newest.size,
                "root": newest.root.hex(),
                "cosigners": [
                    {"owner": vote.owner, "name": vote.name, "time": vote.time} for vote in newest.cosignatures
                ],
                "witnesses": [
                    {"witness": vote.owner, "name": vote.name, "time": vote.time} for vote in newest.witnesses
                ],
                "quorum_size": newest.quorum_size,
            },
            "receipts": None if self.kept is None else self.kept.to_json(),
            "as_of": None if self.as_of is None else self.as_of.to_json(),
        }
