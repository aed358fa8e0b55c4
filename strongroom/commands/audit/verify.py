"""`strongroom audit verify`: the whole verdict.

Exits with 0 (PASS), 1 (FAIL) or 2 (INCOMPLETE, or nothing could be read at all).
"""

import json
import sys
from pathlib import Path

import click

from audit.lineage import verify_predecessor
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict, CheckState, Counts, Finding
from audit.verify import verify as verify_log
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.fields import format_digest
from strongroom.commands.audit.files import checkpoint, read
from strongroom.commands.audit.progress import progress_bar
from strongroom.commands.failure import failing_in_words

_COLOURS = {AuditVerdict.PASS: "green", AuditVerdict.FAIL: "red", AuditVerdict.INCOMPLETE: "yellow"}
_GRAVITY = (AuditVerdict.PASS, AuditVerdict.INCOMPLETE, AuditVerdict.FAIL)
_MARKS = {
    CheckState.PASSED: "ok",
    CheckState.FAILED: "FAILED",
    CheckState.INCOMPLETE: "incomplete",
    CheckState.NOT_REACHED: "not reached",
}
_SHOWN_FINDINGS = 20


@click.command(short_help="Verify every byte of STORE's log, and replay it.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--agreement",
    "agreement_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your own copy of federation.toml.",
)
@click.option(
    "--head",
    "kept_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A checkpoint of this log that a silo or you have kept; repeatable. A log that was rolled back fails it.",
)
@click.option(
    "--predecessor",
    "predecessors",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The log before this one, which the agreement succeeds; repeatable, from newer to older.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    store: Path, agreement_file: Path, kept_files: tuple[Path, ...], predecessors: tuple[Path, ...], *, as_json: bool
) -> None:
    """Verify the log in STORE (an appliance's store, or a copy of its log directory) and replay its history.

    Exits with 0 for PASS, 1 for FAIL and 2 for INCOMPLETE, and names the first divergence or what is missing.
    """
    with failing_in_words(), progress_bar() as progress:
        agreement = Agreement.parse(read(agreement_file), str(agreement_file))
        kept = {printable(str(file)): checkpoint(file) for file in kept_files}
        files = LogFiles.find(store)
        reports = [verify_log(files, agreement, kept=kept, progress=progress)]
        for older in map(LogFiles.find, predecessors):
            agreement, report = verify_predecessor(files, agreement, older, progress=progress)
            reports.append(report)
            files = older
    if as_json:
        click.echo(json.dumps(_json(reports), indent=2))
    else:
        click.echo("\n\n".join(_in_words(report) for report in reports))
    sys.exit(max(reports, key=lambda report: _GRAVITY.index(report.verdict)).exit_code)


def _json(reports: list[AuditReport]) -> dict[str, object]:
    """The newest log's report, with those of the logs before it."""
    newest, *older = (report.to_json() for report in reports)
    return {**newest, "predecessors": older} if older else dict(newest)


def _in_words(report: AuditReport) -> str:
    lines = [click.style(report.line, fg=_COLOURS[report.verdict], bold=True)]
    if report.divergence is not None:
        lines.append(f"first divergence: {report.divergence}")
    elif report.missing:
        lines.append(f"not checked: {report.missing[0]}")
    lines += ["", f"  log        {report.origin}", f"  agreement  {format_digest(report.agreement)}"]
    if (newest := report.newest) is not None:
        owners = ", ".join(vote.owner for vote in newest.cosignatures) or "nobody"
        quorum = f"a quorum has cosigned the first {newest.quorum_size}" if newest.quorum_size else "no quorum yet"
        lines.append(f"  newest     {newest.size} entries, root {newest.root.hex()}")
        lines.append(f"             cosigned by {owners}; {quorum}")
    lines += ["", *_counts_in_words(report.counts), ""]
    for check in report.checks:
        detail = f" ({check.detail})" if check.detail and check.state is CheckState.PASSED else ""
        lines.append(f"  {check.line}. {check.name}{detail}: {_MARKS[check.state]}")
    others = [finding for finding in report.damage if finding is not report.divergence]
    lines += _section("Also damaged", [str(finding) for finding in others])
    lines += _section("Could not be checked", _findings(report.missing))
    lines += _section("Worth knowing", list(report.information))
    lines += _section("Not checked, as no log can tell", list(report.not_checked))
    return "\n".join(lines)


def _counts_in_words(counts: Counts) -> list[str]:
    rows = (
        {"entries": counts.entries, "checkpoints": counts.checkpoints, "boots": counts.boots},
        {"admissions": counts.admissions, "refusals": counts.refusals},
        {"rounds published": counts.rounds_published, "attempts abandoned": counts.attempts_abandoned},
        {"updates used": counts.updates_used, "refused": counts.updates_refused, "resets": counts.control_resets},
    )
    return ["  " + ", ".join(f"{name} {count}" for name, count in row.items()) for row in rows]


def _findings(findings: tuple[Finding, ...]) -> list[str]:
    return [str(finding) for finding in findings]


def _section(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    shown = [f"  - {item}" for item in items[:_SHOWN_FINDINGS]]
    if len(items) > _SHOWN_FINDINGS:
        shown.append(f"  - and {len(items) - _SHOWN_FINDINGS} more (--json lists them)")
    return ["", f"{title}:", *shown]
