"""`strongroom audit verify | show`: read a federation's log offline. Needs the base install only.

`verify` exits with 0 (PASS), 1 (FAIL) or 2 (INCOMPLETE, or nothing could be read at all).
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from audit.entries import Entry, UnknownEntryError, parse_entry
from audit.evidence import LATEST_TIME
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint
from audit.report import AuditReport, AuditVerdict, CheckState, Counts, Finding
from audit.resources import CHECKPOINT, checkpoint_name, tile_name
from audit.store import MAXIMUM_READ_BYTES
from audit.tiles import Tile, entry_bundles, parse_bundle
from audit.verify import Progress
from audit.verify import verify as verify_log
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from protocol.fields import format_digest
from strongroom.commands.failure import Failure, failing_in_words

_STORE = click.argument("store", type=click.Path(path_type=Path))
_COLOURS = {AuditVerdict.PASS: "green", AuditVerdict.FAIL: "red", AuditVerdict.INCOMPLETE: "yellow"}
_MARKS = {
    CheckState.PASSED: "ok",
    CheckState.FAILED: "FAILED",
    CheckState.INCOMPLETE: "incomplete",
    CheckState.NOT_REACHED: "not reached",
}
_LONG = 2_000  # Entries from which on a terminal gets a progress bar.
_SHOWN_FINDINGS = 20


@click.group()
def command() -> None:
    """Verify a federation's log offline, or read it."""


@command.command(short_help="Verify every byte of STORE's log, and replay it.")
@_STORE
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
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(store: Path, agreement_file: Path, kept_files: tuple[Path, ...], *, as_json: bool) -> None:
    """Verify the log in STORE (an appliance's store, or a copy of its log directory) and replay its history.

    Exits with 0 for PASS, 1 for FAIL and 2 for INCOMPLETE, and names the first divergence or what is missing.
    """
    with failing_in_words(), _progress_bar() as progress:
        agreement = Agreement.parse(_read(agreement_file), str(agreement_file))
        kept = {printable(str(file)): _checkpoint(file) for file in kept_files}
        report = verify_log(LogFiles.find(store), agreement, kept=kept, progress=progress)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else _in_words(report))
    sys.exit(report.exit_code)


@command.command(short_help="Print the entries of STORE's log, unverified.")
@_STORE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: index and entry.")
def show(store: Path, *, as_json: bool) -> None:
    """Print the entries of the log in STORE as they are stored. Nothing is verified: that is what `verify` is for."""
    with failing_in_words():
        for index, data in enumerate(_entries(LogFiles.find(store))):
            click.echo(_as_json_line(index, data) if as_json else _as_row(index, data))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: expected a readable file, found {error.strerror or error}") from error


def _checkpoint(file: Path) -> Checkpoint:
    try:
        return Checkpoint.parse(_read(file))
    except MalformedError as error:
        raise Failure(f"{file}: {printable(str(error))}") from error


@contextmanager
def _progress_bar() -> Iterator[Progress | None]:
    """A bar on stderr for a long log, if a person is looking."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("replaying"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replaying", total=None, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= _LONG)

        yield advance


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


def _entries(files: LogFiles) -> Iterator[bytes]:
    """The entries under the newest checkpoint, bundle by bundle, unverified."""
    inventory = Inventory.take(files.listed())
    if not (inventory.has_checkpoint or inventory.notes):
        raise Failure(f"{CHECKPOINT}: expected a checkpoint, found none")
    name = CHECKPOINT if inventory.has_checkpoint else checkpoint_name(inventory.notes[-1])
    size = Checkpoint.parse(files.read(name, limit_bytes=MAXIMUM_NOTE_BYTES)).size
    for bundle in entry_bundles(size):
        source: Tile = bundle if bundle in inventory.tiles else bundle.full
        data = files.read(tile_name(source), limit_bytes=MAXIMUM_READ_BYTES)
        try:
            yield from parse_bundle(data, width=source.width)[: bundle.width]
        except MalformedError as error:
            raise MalformedError(f"{tile_name(source)}: {error}") from error


def _as_json_line(index: int, data: bytes) -> str:
    """Escaped to ASCII: nothing in an unverified log may drive a terminal."""
    try:
        entry = json.loads(data)
    except ValueError:
        return json.dumps({"index": index, "malformed": data.hex()})
    return json.dumps({"index": index, "entry": entry})


def _as_row(index: int, data: bytes) -> str:
    try:
        entry = parse_entry(data)
    except UnknownEntryError as error:
        return f"{index:>7}  {'':19}  {printable(str(error))}"
    except MalformedError as error:
        return f"{index:>7}  {'':19}  malformed: {printable(str(error))}"
    return f"{index:>7}  {_time(entry):19}  {entry.KIND or '':17}  {_what(entry)}".rstrip()


def _time(entry: Entry) -> str:
    time = getattr(entry, "time", 0)
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}" if time <= LATEST_TIME else f"{time} s"


def _what(entry: Entry) -> str:
    """What tells one entry of a kind from the next: round and attempt, silo, code or reason, cohort, model."""
    parts = []
    if (number := getattr(entry, "round", None)) is not None:
        parts.append(f"round {number} attempt {getattr(entry, 'attempt', 0)}")
    for name in ("silo", "tee", "code", "reason"):
        if (value := getattr(entry, name, None)) is not None:
            parts.append(str(value))
    if cohort := getattr(entry, "cohort", ()):
        parts.append(f"cohort {', '.join(member.silo for member in cohort)}")
    for name in ("model_out", "model", "update", "boot_id"):
        if (value := getattr(entry, name, None)) is not None:
            parts.append(f"{name.replace('_', ' ')} {value.hex()[:16]}…")
            break
    return ", ".join(parts)
