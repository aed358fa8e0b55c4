"""`strongroom audit show`: the entries as they are stored, unverified."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from audit.entries import Entry, UnknownEntryError, parse_entry
from audit.evidence import LATEST_TIME
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.resources import CHECKPOINT, checkpoint_name, read_bundle, read_checkpoint
from audit.selection import Selection, parse_moment, parse_range
from audit.tiles import entry_bundles
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from strongroom.commands.failure import Failure, failing_in_words

Parsed = TypeVar("Parsed")


@click.command(short_help="Print the entries of STORE's log, unverified.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--kind", "kinds", multiple=True, help="Only entries of this kind (round.published, say); repeatable.")
@click.option("--silo", help="Only entries about this silo, or with it in their cohort.")
@click.option("--round", "number", type=click.IntRange(0), help="Only entries of this round.")
@click.option(
    "--since", help="Only entries from this time on: ISO 8601 (UTC unless it says otherwise) or unix seconds."
)
@click.option("--until", help="Only entries before this time.")
@click.option("--entries", "numbers", help="Only entries A..B, both included; A.. and ..B will do.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: index and entry.")
def command(
    store: Path,
    kinds: tuple[str, ...],
    silo: str | None,
    number: int | None,
    since: str | None,
    until: str | None,
    numbers: str | None,
    *,
    as_json: bool,
) -> None:
    """Print the entries of the log in STORE as they are stored. Nothing is verified: that is what `verify` is for.

    Filters are joined: an entry is shown if all of them hold.
    """
    with failing_in_words():
        first, last = (0, None) if numbers is None else _option("--entries", parse_range, numbers)
        selection = Selection(
            first=first,
            last=last,
            kinds=frozenset(kinds),
            silo=silo,
            round=number,
            since=None if since is None else _option("--since", parse_moment, since),
            until=None if until is None else _option("--until", parse_moment, until),
        )
        shown = 0
        for index, data in _entries(LogFiles.find(store), selection):
            click.echo(_as_json_line(index, data) if as_json else _as_row(index, data))
            shown += 1
    if not shown:
        click.echo("no entry matches", err=True)


def _option(name: str, parse: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse(text)
    except MalformedError as error:
        raise Failure(f"{name}: {error}") from error


def _entries(files: LogFiles, selection: Selection) -> Iterator[tuple[int, bytes]]:
    """The selected entries under the newest checkpoint, one bundle in memory at a time, unverified."""
    inventory = Inventory.take(files.listed())
    if not (inventory.has_checkpoint or inventory.notes):
        raise Failure(f"{CHECKPOINT}: expected a checkpoint, found none")
    name = CHECKPOINT if inventory.has_checkpoint else checkpoint_name(inventory.notes[-1])
    size = read_checkpoint(files, name).size
    end = size if selection.last is None else min(size, selection.last + 1)
    for bundle in entry_bundles(size, old_size=min(selection.first, size)):
        if bundle.start >= end:
            return
        for index, data in enumerate(read_bundle(files, bundle, or_full=True), bundle.start):
            if selection.first <= index < end and data in selection:
                yield index, data


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
