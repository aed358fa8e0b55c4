"""The checklist of `audit.verify` as its report has it: each line in words, and how it went. Called by the audit."""

from collections.abc import Mapping, Set

from audit.findings import Findings
from audit.report import CheckLine, Line

_NAMES = {
    Line.AGREEMENT: "the log is of this agreement",
    Line.FILES: "every file is accounted for, every tile what the entries make",
    Line.TRUST: "evidence vouches for the log key, and the key for every checkpoint",
    Line.ENTRIES: "every entry follows from the ones before it",
    Line.EVIDENCE: "the evidence of every boot and every silo, again from its bytes",
    Line.RELEASES: "nothing was released before a quorum had cosigned",
    Line.OBJECTS: "every object that an entry names is there",
}


def check_lines(findings: Findings, reached: Set[Line], details: Mapping[Line, str]) -> tuple[CheckLine, ...]:
    """Every line, `reached` or not; `details`: how much was checked."""
    return tuple(
        CheckLine(
            line=line,
            name=_NAMES[line],
            state=findings.state(line, reached=line in reached),
            detail=details.get(line, ""),
        )
        for line in Line
    )
