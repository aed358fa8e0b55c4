"""`strongroom silo init | enroll | train | recover | status | head | receipts`: take part in a federation.

`init`, `status`, `head` and `receipts` need the base install only; the others import torch and grpc when they run.
"""

import json
import os
import re
from pathlib import Path

import click

from attestation.reference_values import ReferenceValues
from attestation.tee import Tee
from audit.agreed import quorum_of
from audit.entries import Entry, parse_entry
from audit.proof import Receipt
from audit.store import DirectoryStore
from protocol.agreement import Agreement
from protocol.agreement_render import render_silo
from protocol.fields import NAME, format_digest
from silo_client.config import SiloConfig, SiloFiles
from silo_client.identity import create_identity
from silo_client.notice import PROTECTS_NOTHING, say_if_simulated
from silo_client.state import SiloState
from strongroom.commands.failure import Failure
from strongroom.commands.silo_exit import Refused, silo_failing_in_words
from strongroom.commands.silo_recover import command as recover_command

_FILE = click.Path(path_type=Path, dir_okay=False)
_CONFIG = click.option(
    "--config", "file", type=_FILE, default=Path("silo.toml"), show_default=True, help="The silo's settings."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_JURISDICTION = re.compile(r"[A-Za-z0-9-]{1,63}")


@click.group()
def command() -> None:
    """Take part in a federation: keys, enrolment, training."""


@command.command(short_help="Make a key pair, and print the [[silo]] block.")
@click.argument("name")
@click.option("--owner", help="Who owns the data; one vote in the quorum.  [default: NAME]")
@click.option("--jurisdiction", default="unspecified", show_default=True, help="Where the data lies, e.g. CH or US-CA.")
@click.option("--weight", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="In the mean.")
@click.option(
    "--tee",
    type=click.Choice([Tee.NONE.value, Tee.SIMULATED.value]),
    default=Tee.NONE.value,
    show_default=True,
    help="What vouches for this silo beside its key.",
)
@click.option("--key", type=_FILE, help="Where the identity key goes.  [default: NAME.key]")
def init(name: str, owner: str | None, jurisdiction: str, weight: float, tee: str, key: Path | None) -> None:
    """Make NAME's identity key, and print the [[silo]] block to paste into the agreement.

    The key file is readable by its owner only, and an existing one is never overwritten.
    """
    for option, value in (("NAME", name), ("--owner", owner or name)):
        if not NAME.fullmatch(value):
            raise Failure(f"{option}: expected a name [a-z0-9-]{{1,63}}, found {value!r}")
    if not _JURISDICTION.fullmatch(jurisdiction):
        raise Failure(f"--jurisdiction: expected 1 to 63 of [A-Za-z0-9-], found {jurisdiction!r}")
    path = key or Path(f"{name}.key")
    references = _references(Tee(tee))
    with silo_failing_in_words():
        identity = create_identity(path, os.urandom(32))
    click.echo(f"wrote {path} (keep it secret; whoever has it is {name})", err=True)
    block = render_silo(
        name=name,
        owner=owner or name,
        jurisdiction=jurisdiction,
        identity=identity.public,
        weight=weight,
        tees=(references,),
    )
    click.echo(block, nl=False)


@command.command(short_help="Enrol once, and say what came of it.")
@_CONFIG
@_JSON
def enroll(file: Path, *, as_json: bool) -> None:
    """Appraise the appliance, and be appraised by it: what `train` does first, for trying it out.

    Exits with 0 if the silo was admitted, 1 if the appliance is out of reach, 2 if the silo's files are wrong, 3 if
    either side refuses the other, 4 if the appliance's log was rolled back, forked or replaced.
    """
    from silo_client.events import Silent
    from silo_client.opening import Opened, alone

    with silo_failing_in_words():
        opened = Opened.load(SiloConfig.load(file))
        say_if_simulated(opened.agreement)
        with alone(opened.config):
            machine = opened.machine()
            opened.courier(machine, Silent(), background=False).enrol()
            enrolled, head = machine.enrolled, machine.state.head
    found = {
        "silo": opened.config.name,
        "agreement": format_digest(opened.agreement.digest),
        "boot_id": enrolled.boot_id.hex(),
        "expires": enrolled.credential.expires,
        "log": opened.agreement.log.origin,
        "log_key": str(enrolled.keys.log_key),
        "log_size": 0 if head is None else head.size,
        "simulated": opened.agreement.simulated,
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.secho(f"{opened.config.name} is admitted to {opened.agreement.federation.name!r}.", bold=True)
    click.echo(_table({key: str(value) for key, value in found.items() if key != "silo"}))


@command.command(short_help="Say what this silo knows.")
@_CONFIG
@_JSON
def status(file: Path, *, as_json: bool) -> None:
    """Show the silo's own state: the log that it has seen, and its last update. Asks nobody."""
    with silo_failing_in_words():
        config = SiloConfig.load(file)
        agreement = SiloFiles.load(config).agreement
        say_if_simulated(agreement)
        state = _state(config, agreement)
    pending, head, sealed = state.pending, state.head, state.last_sealed
    found = {
        "silo": config.name,
        "agreement": format_digest(agreement.digest),
        "log": agreement.log.origin,
        "log_key": None if state.log_key is None else str(state.log_key),
        "log_size": 0 if head is None else head.size,
        "last_cosignature": state.cosigned_at or None,
        "last_sealed": None if sealed is None else {"round": sealed[0], "attempt": sealed[1]},
        "pending": None if pending is None else {"round": pending.round, "attempt": pending.attempt},
        "last_used": None if state.parent is None else state.parent.hex(),
        "has_control": state.has_control(),
        "control_epoch": state.control_epoch,
        "receipts": len(state.receipts()),
        "simulated": agreement.simulated,
    }
    click.echo(json.dumps(found, indent=2) if as_json else _table({key: _shown(item) for key, item in found.items()}))


@command.command(short_help="Print the newest head of the log that this silo has seen.")
@_CONFIG
def head(file: Path) -> None:
    """Print the newest checkpoint that this silo has verified, a signed note, for `audit verify --head` and `compare`.

    It carries the log's signature alone. Nobody is asked.
    """
    with silo_failing_in_words():
        config = SiloConfig.load(file)
        agreement = SiloFiles.load(config).agreement
        say_if_simulated(agreement)
        newest = _state(config, agreement).head
    if newest is None:
        raise Failure(f"{config.name}: expected a head of the log, found none yet: it has cosigned nothing")
    click.echo(newest.encode().decode(), nl=False)


@command.command(short_help="List the receipts that this silo keeps.")
@_CONFIG
@_JSON
def receipts(file: Path, *, as_json: bool) -> None:
    """List the receipts: entries of the log with their proofs, each verified under the log key of its time.

    The files (`….entry.json` and `….tlog-proof`) are in the state folder. Exits with 3 if one does not verify.
    """
    with silo_failing_in_words():
        config = SiloConfig.load(file)
        agreement = SiloFiles.load(config).agreement
        say_if_simulated(agreement)
        state = _state(config, agreement)
        rows = [_receipt(state, agreement, name) for name in state.receipts()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("no receipts yet")
    else:
        for row in rows:
            moment = f"round {row['round']}.{row['attempt']}" if "round" in row else ""
            owners = f"cosigned by {row['owners']} owners" if row["owners"] else "signed by the log"
            click.echo(f"  {row['index']:>8}  {row['kind']:<18} {moment:<14} {owners}, of {row['size']} entries")


@command.command(
    short_help="Run a training script as this silo.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--config", "file", type=_FILE, help="A silo.toml in place of the one that TASK names.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an event on stdout.")
@click.argument("task", type=_FILE)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def train(context: click.Context, file: Path | None, task: Path, arguments: tuple[str, ...], *, as_json: bool) -> None:
    """Run TASK, a Python file with a training loop over `strongroom.silo(…)`, and show how it goes.

    Exits with 0 when TASK has ended, 1 if it failed, 2 if the silo's files are wrong, 3 if silo and appliance refuse
    each other, 4 if the appliance's log was rolled back, forked or replaced.
    """
    from strongroom.commands.silo_train import run

    context.exit(run(task, arguments, config=file, as_json=as_json))


command.add_command(recover_command)


def _references(tee: Tee) -> ReferenceValues | None:
    if tee is Tee.NONE:
        return None
    from attestation.collect.measurement import installed_code, measure
    from attestation.simulated.reference_values import simulated_reference_values

    click.echo(PROTECTS_NOTHING, err=True)
    return simulated_reference_values(measure(installed_code()))


def _state(config: SiloConfig, agreement: Agreement) -> SiloState:
    return SiloState.read_only(DirectoryStore(config.state), agreement=agreement.digest, silo=config.name)


def _receipt(state: SiloState, agreement: Agreement, name: str) -> dict[str, object]:
    data, proof = state.read_receipt(name)
    receipt, entry = Receipt.parse(proof), parse_entry(data)
    keys = state.log_keys(agreement.log.origin)
    if keys is None:
        raise Refused(f"{name}: expected a pinned log key to verify it under, found none")
    log_key = keys.signer(receipt.checkpoint)
    receipt.verify(data, log_key=log_key, quorum=None)
    votes = quorum_of(agreement).count(receipt.checkpoint, log_key)
    return {
        "index": receipt.index,
        "kind": entry.KIND,
        **_moment(entry),
        "size": receipt.checkpoint.size,
        "owners": len(votes.owners),
        "witnesses": len(votes.witnesses),
        "name": name,
    }


def _moment(entry: Entry) -> dict[str, object]:
    return {key: getattr(entry, key) for key in ("round", "attempt") if hasattr(entry, key)}


def _shown(item: object) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{key} {value}" for key, value in item.items())
    if isinstance(item, bool):
        return "yes" if item else "no"
    return "none" if item is None else str(item)


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {key.replace('_', ' '):<{width}}  {value}" for key, value in rows.items())
