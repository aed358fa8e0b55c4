"""`strongroom audit verify`: the whole verdict.

Exits with 0 (PASS), 1 (FAIL) or 2 (INCOMPLETE, or nothing could be read at all), and with 3 for a PASS whose evidence
does not hold as of another day, if that is asked for.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypedDict

import click

from audit.as_of import AsOf, in_words
from audit.bundle import AGREEMENT
from audit.doubts import OtherDay
from audit.evidence import LATEST_TIME
from audit.kept import Kept
from audit.lineage import predecessor_of, verify_predecessor
from audit.log_files import LogFiles
from audit.receipt_files import HandedIn, NotUnderstood, receipts_below, sorted_by_log
from audit.report import AuditReport, AuditVerdict, CheckState, Counts, Finding
from audit.resumption import Resumption
from audit.selection import parse_moment
from audit.verify import verify as verify_log
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from protocol.fields import format_digest
from strongroom.commands.audit.files import checkpoint, endorsements_in, read, replacing
from strongroom.commands.audit.progress import progress_bar
from strongroom.commands.failure import Failure, failing_in_words

_COLOURS = {AuditVerdict.PASS: "green", AuditVerdict.FAIL: "red", AuditVerdict.INCOMPLETE: "yellow"}
_GRAVITY = (AuditVerdict.PASS, AuditVerdict.INCOMPLETE, AuditVerdict.FAIL)
_MARKS = {
    CheckState.PASSED: "ok",
    CheckState.FAILED: "FAILED",
    CheckState.INCOMPLETE: "incomplete",
    CheckState.NOT_REACHED: "not reached",
}
_SHOWN_FINDINGS = 20
_IN_DOUBT = 3
_FOLDER = click.Path(path_type=Path, file_okay=False)
_OWN_AGREEMENT = (
    "it came with the log, and the verdict is worth nothing until you have compared its digest with the agreement that "
    "you know (--agreement does it for you)"
)


@click.command(short_help="Verify every byte of STORE's log, and replay it.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--agreement",
    "agreement_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your own copy of federation.toml. A bundle has one, which nobody vouches for.",
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
@click.option(
    "--receipts",
    "receipt_folders",
    multiple=True,
    type=_FOLDER,
    help="A folder of receipts that silos have kept, in any layout; repeatable. All must be of this one history.",
)
@click.option(
    "--endorsements",
    type=_FOLDER,
    help="A folder of today's revocation lists and collateral, by which all evidence is appraised once more.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="The time that --endorsements is of, in place of now; ISO 8601 or unix seconds.",
)
@click.option(
    "--fail-on-doubt",
    is_flag=True,
    help="Exit with 3 if evidence is in doubt as of that day, or could not be checked though lists for it exist.",
)
@click.option(
    "--resume",
    "resume_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your own file: go on from what it says was verified, and keep there how far you came. Made if need be.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    store: Path,
    agreement_file: Path | None,
    kept_files: tuple[Path, ...],
    predecessors: tuple[Path, ...],
    receipt_folders: tuple[Path, ...],
    endorsements: Path | None,
    at: str | None,
    resume_file: Path | None,
    *,
    fail_on_doubt: bool,
    as_json: bool,
) -> None:
    """Verify the log in STORE (an appliance's store, a copy of its log directory, or a bundle) and replay its history.

    Exits with 0 for PASS, 1 for FAIL and 2 for INCOMPLETE, and names the first divergence or what is missing. The
    verdict is that of the history: what vendors have withdrawn since is said beside it (--endorsements).
    """
    with failing_in_words(), progress_bar() as progress:
        found = LogFiles.find(store)
        agreement = _agreement(found, store, agreement_file)
        kept = {printable(str(file)): checkpoint(file) for file in kept_files}
        other_day = _other_day(endorsements, at, needed=fail_on_doubt)
        resumed = None if resume_file is None else _resumed(resume_file, agreement)
        keep = None if resume_file is None else partial(_keep, resume_file)
        logs = _lineage(found, agreement, predecessors)
        reports = []
        for number, (files, terms) in enumerate(logs):
            others = frozenset(other.log.origin for _, other in logs if other is not terms)
            receipts = sorted_by_log(
                (file for folder in receipt_folders for file in receipts_below(folder)),
                origin=terms.log.origin,
                others=others,
                takes_the_rest=number == 0,
            )
            given: _Given = {"receipts": receipts if receipt_folders else None, "other_day": other_day}
            if number == 0:
                report = verify_log(files, terms, kept=kept, progress=progress, resumed=resumed, keep=keep, **given)
                reports.append(report if agreement_file is not None else _under_its_own(report))
            else:
                reports.append(verify_predecessor(*logs[number - 1], files, progress=progress, **given)[1])
    if as_json:
        click.echo(json.dumps(_json(reports), indent=2))
    else:
        click.echo("\n\n".join(_in_words(report) for report in reports))
    sys.exit(_exit_code(reports, fail_on_doubt=fail_on_doubt))


class _Given(TypedDict):
    """What every log of a lineage is audited with."""

    receipts: Iterator[HandedIn | NotUnderstood] | None
    other_day: OtherDay | None


def _lineage(
    newest: LogFiles, agreement: Agreement, predecessors: tuple[Path, ...]
) -> list[tuple[LogFiles, Agreement]]:
    """Each log with its agreement, newest first; what a log says of the one before it is still to be verified."""
    logs = [(newest, agreement)]
    for older in map(LogFiles.find, predecessors):
        logs.append((older, predecessor_of(*logs[-1])[0]))
    return logs


def _json(reports: list[AuditReport]) -> dict[str, object]:
    """The newest log's report, with those of the logs before it."""
    newest, *older = (report.to_json() for report in reports)
    return {**newest, "predecessors": older} if older else dict(newest)


def _other_day(folder: Path | None, at: str | None, *, needed: bool) -> OtherDay | None:
    if folder is None:
        if at is not None or needed:
            option = "--at" if at is not None else "--fail-on-doubt"
            raise Failure(f"{option}: expected --endorsements beside it, found none; say which lists to judge by")
        return None
    try:
        moment = int(time.time()) if at is None else parse_moment(at)
    except MalformedError as error:
        raise Failure(f"--at: {printable(str(error))}") from error
    if not 0 <= moment <= LATEST_TIME:
        raise Failure(f"--at: expected a time up to the year 9999, found {moment} s")
    return OtherDay(endorsements=endorsements_in(folder), time=moment)


def _exit_code(reports: list[AuditReport], *, fail_on_doubt: bool) -> int:
    worst = max(reports, key=lambda report: _GRAVITY.index(report.verdict))
    in_doubt = any(report.as_of is not None and (report.as_of.doubts or report.as_of.unchecked) for report in reports)
    return _IN_DOUBT if fail_on_doubt and in_doubt and worst.verdict is AuditVerdict.PASS else worst.exit_code


def _agreement(files: LogFiles, store: Path, agreement_file: Path | None) -> Agreement:
    """The auditor's own copy or, failing that, the one in the bundle."""
    if agreement_file is not None:
        return Agreement.parse(read(agreement_file), str(agreement_file))
    if files.agreement is None:
        raise Failure("expected --agreement with your own copy of federation.toml, found none (only a bundle has one)")
    return Agreement.parse(files.agreement, f"{store}: {AGREEMENT}")


def _under_its_own(report: AuditReport) -> AuditReport:
    """Say loudly whose agreement it was."""
    shown = f"agreement {format_digest(report.agreement)}: {_OWN_AGREEMENT}"
    click.echo(click.style(shown, fg="yellow", bold=True), err=True)
    return replace(report, information=(_OWN_AGREEMENT, *report.information))


def _resumed(file: Path, agreement: Agreement) -> Resumption | None:
    """What an earlier run kept; None where there is no such file yet."""
    if not file.exists():
        return None
    try:
        resumed = Resumption.parse(read(file))
    except MalformedError as error:
        raise Failure(f"{file}: {printable(str(error))}") from error
    if resumed.agreement != agreement.digest:
        expected, found = format_digest(agreement.digest), format_digest(resumed.agreement)
        raise Failure(f"{file}: expected a verification under agreement {expected}, found one under {found}")
    return resumed


def _keep(file: Path, resumption: Resumption) -> None:
    with replacing(file) as writer:
        writer.write(resumption.encode())


def _in_words(report: AuditReport) -> str:
    lines = [click.style(report.line, fg=_COLOURS[report.verdict], bold=True)]
    if report.divergence is not None:
        lines.append(f"first divergence: {report.divergence}")
    elif report.missing:
        lines.append(f"not checked: {report.missing[0]}")
    lines += ["", f"  log        {report.origin}", f"  agreement  {format_digest(report.agreement)}"]
    if (newest := report.newest) is not None:
        owners = ", ".join(vote.owner for vote in newest.cosignatures) or "nobody"
        witnesses = "".join(f", witness {vote.owner}" for vote in newest.witnesses)
        quorum = f"a quorum has cosigned the first {newest.quorum_size}" if newest.quorum_size else "no quorum yet"
        lines.append(f"  newest     {newest.size} entries, root {newest.root.hex()}")
        lines.append(f"             cosigned by {owners}{witnesses}; {quorum}")
    lines += ["", *_counts_in_words(report.counts), ""]
    for check in report.checks:
        detail = f" ({check.detail})" if check.detail and check.state is CheckState.PASSED else ""
        lines.append(f"  {check.line}. {check.name}{detail}: {_MARKS[check.state]}")
    others = [finding for finding in report.damage if finding is not report.divergence]
    lines += _section("Also damaged", [str(finding) for finding in others])
    lines += _section("Could not be checked", _findings(report.missing))
    if report.as_of is not None:
        lines += _as_of_in_words(report.as_of)
    if report.kept is not None:
        lines += _kept_in_words(report.kept)
    lines += _section("Worth knowing", list(report.information))
    lines += _section("Not checked", list(report.not_checked))
    return "\n".join(lines)


def _counts_in_words(counts: Counts) -> list[str]:
    rows = (
        {"entries": counts.entries, "checkpoints": counts.checkpoints, "boots": counts.boots},
        {"admissions": counts.admissions, "refusals": counts.refusals},
        {"rounds published": counts.rounds_published, "attempts abandoned": counts.attempts_abandoned},
        {"updates used": counts.updates_used, "refused": counts.updates_refused, "resets": counts.control_resets},
    )
    return ["  " + ", ".join(f"{name} {count}" for name, count in row.items()) for row in rows]


def _as_of_in_words(as_of: AsOf) -> list[str]:
    day = f"{datetime.fromtimestamp(as_of.time, UTC):%Y-%m-%d %H:%M} UTC"
    rounds = f"; {in_words(as_of.rounds)} in doubt" if as_of.rounds else ""
    return [
        "",
        f"As of {day}: {as_of.held} pieces of evidence hold{rounds}",
        *_section("In doubt, as vendors no longer stand by it", [str(item) for item in as_of.doubts]),
        *_section("Not checked as of that day", [str(item) for item in as_of.unchecked]),
        *_section("Never to be checked as of another day", [str(item) for item in as_of.unpublished]),
    ]


def _kept_in_words(kept: Kept) -> list[str]:
    lines = ["", f"Receipts: {kept.held} of this history, in {kept.files} files or pairs of files"]
    for silo in kept.silos:
        lines.append(f"  {silo}")
        lines += [f"    - {item}" for item in silo.unused]
    return lines


def _findings(findings: tuple[Finding, ...]) -> list[str]:
    return [str(finding) for finding in findings]


def _section(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    shown = [f"  - {item}" for item in items[:_SHOWN_FINDINGS]]
    if len(items) > _SHOWN_FINDINGS:
        shown.append(f"  - and {len(items) - _SHOWN_FINDINGS} more (--json lists them)")
    return ["", f"{title}:", *shown]
