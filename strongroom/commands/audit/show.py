"""`strongroom audit show`: the entries as they are stored, unverified."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from audit.entries import Entry, UnknownEntryError, parse_entry
from audit.evidence import LATEST_TIME
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint
from audit.resources import CHECKPOINT, checkpoint_name, tile_name
from audit.store import MAXIMUM_READ_BYTES
from audit.tiles import Tile, entry_bundles, parse_bundle
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from strongroom.commands.failure import Failure, failing_in_words


@click.command(short_help="Print the entries of STORE's log, unverified.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: index and entry.")
def command(store: Path, *, as_json: bool) -> None:
    """Print the entries of the log in STORE as they are stored. Nothing is verified: that is what `verify` is for."""
    with failing_in_words():
        for index, data in enumerate(_entries(LogFiles.find(store))):
            click.echo(_as_json_line(index, data) if as_json else _as_row(index, data))


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
