"""`strongroom agreement diff | predecessor | approve`: from one agreement to the next. Needs the base install only."""

import json
from pathlib import Path

import click

from audit.agreed import quorum_of
from audit.entries import RoundPublished, parse_entry
from audit.log_files import LogFiles
from audit.predecessor import read_standing
from audit.proof import Receipt
from audit.store import DirectoryStore
from protocol.agreement import Agreement, SiloTerms
from protocol.agreement_diff import changes
from protocol.agreement_render import render_model
from protocol.agreement_terms import ModelTerms
from protocol.fields import format_digest
from protocol.succession import SuccessionError, approval_of, check_successor, continuing, write_approval
from silo_client.config import SiloConfig, SiloFiles
from silo_client.state import SiloState
from strongroom.commands.failure import Failure, failing_in_words

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Say what changes from OLD to NEW.")
@click.argument("old_file", metavar="OLD", type=_FILE)
@click.argument("new_file", metavar="NEW", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(old_file: Path, new_file: Path, *, as_json: bool) -> None:
    """Say what changes from OLD to NEW, who continues, joins and leaves, and whether NEW may succeed OLD."""
    with failing_in_words():
        old, new = _parse(old_file), _parse(new_file)
    found = changes(old, new)
    problem = _problem(old, new)
    if as_json:
        summary = {
            "old": format_digest(old.digest),
            "new": format_digest(new.digest),
            "is_successor": problem is None,
            "problem": problem,
            "continuing": [silo.name for silo in continuing(old, new)],
            "joining": [silo.name for silo in _joining(old, new)],
            "leaving": [silo.name for silo in _joining(new, old)],
            "changes": [{"place": change.place, "old": change.old, "new": change.new} for change in found],
        }
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(f"  old  {format_digest(old.digest)}\n  new  {format_digest(new.digest)}\n")
    for change in found:
        click.echo(str(change))
    if not found:
        click.echo("nothing but comments or layout: the digests differ all the same" if old != new else "no difference")
    click.echo(f"\ncontinues  {_names(continuing(old, new))}")
    click.echo(f"joins      {_names(_joining(old, new))}\nleaves     {_names(_joining(new, old))}")
    if problem is None and new.predecessor is not None:
        click.echo(
            f"\nNEW succeeds OLD after round {new.predecessor.rounds}, once everybody who continues approves it."
        )
    else:
        click.echo(f"\nNEW does not succeed OLD: {problem}")


@click.command(short_help="Print the [predecessor] block for a successor.")
@click.argument("old_file", metavar="OLD", type=_FILE)
@click.argument("store", type=click.Path(path_type=Path))
def predecessor(old_file: Path, store: Path) -> None:
    """Verify the log in STORE, and print the blocks that a successor of OLD goes on from: [predecessor] and [model]."""
    with failing_in_words():
        old = _parse(old_file)
        standing = read_standing(LogFiles.find(store), old)
    click.echo(f'[predecessor]\nagreement = "{format_digest(old.digest)}"\nrounds = {standing.rounds}\n')
    click.echo(render_model(ModelTerms(layout=old.model.layout, initial=standing.model)), nl=False)


@click.command(short_help="Approve NEW as the successor of this silo's agreement.")
@click.argument("new_file", metavar="NEW", type=_FILE)
@click.option(
    "--config", "file", type=_FILE, default=Path("silo.toml"), show_default=True, help="The silo's settings, of OLD."
)
@click.option("--out", type=_FILE, help="Where the approval goes.  [default: NAME.approval]")
@click.option("--yes", is_flag=True, help="Don't ask.")
def approve(new_file: Path, file: Path, out: Path | None, *, yes: bool) -> None:
    """Sign this silo's approval of NEW with its identity key, for the operator of the appliance.

    The agreement that silo.toml names is the one that NEW succeeds. What changes is shown before anything is signed.
    """
    with failing_in_words():
        config = SiloConfig.load(file)
        files = SiloFiles.load(config)
        old, new = files.agreement, _parse(new_file)
        check_successor(old, new)
        terms = next((silo for silo in new.silos if silo.identity == files.identity.public), None)
        if terms is None:
            raise Failure(
                f"{new_file}: expected a silo with this silo's identity key, found none: it does not continue"
            )
        known = _what_is_known(config, old, new)
    for change in changes(old, new):
        click.echo(str(change), err=True)
    click.echo(f"\n{known}", err=True)
    if not yes and not click.confirm(f"Approve {format_digest(new.digest)} as {terms.name}?", err=True):
        raise Failure("not approved: nothing was signed")
    target = out or Path(f"{terms.name}.approval")
    approval = approval_of(new, terms.name)
    try:
        target.write_bytes(write_approval(approval.sign(files.identity)))
    except OSError as error:
        raise Failure(f"{target}: expected a writable file, found {error.strerror or error}") from error
    click.echo(f"wrote {target}: hand it to the operator of the appliance", err=True)


def _what_is_known(config: SiloConfig, old: Agreement, new: Agreement) -> str:
    """Hold what NEW goes on from against this silo's own receipts; raises `SuccessionError` if they contradict."""
    expected = approval_of(new, next(silo.name for silo in new.silos if silo in continuing(old, new)))
    state = SiloState.read_only(DirectoryStore(config.state), agreement=old.digest, silo=config.name)
    agreed, keys = False, state.log_keys(old.log.origin)
    for name in state.receipts():
        if not name.endswith(f"-{RoundPublished.KIND}") or keys is None:
            continue
        data, proof = state.read_receipt(name)
        receipt = Receipt.parse(proof)
        receipt.verify(data, log_key=keys.signer(receipt.checkpoint), quorum=quorum_of(old))
        entry = parse_entry(data)
        if not isinstance(entry, RoundPublished):
            continue
        if entry.round > expected.rounds:
            raise SuccessionError(
                f"successor: [predecessor] rounds: this silo has a receipt for round {entry.round}: expected at least "
                f"that, found {expected.rounds}"
            )
        if entry.round == expected.rounds:
            if entry.model_out != expected.model:
                raise SuccessionError(
                    f"successor: [model] initial: expected {format_digest(entry.model_out)}, the model of round "
                    f"{entry.round} in this silo's receipt, found {format_digest(expected.model)}"
                )
            agreed = True
    if agreed:
        return f"This silo's own receipt says the same of round {expected.rounds} and its model."
    return (
        f"This silo has no receipt for round {expected.rounds}: it was not in that cohort. The appliance checks the "
        "model against its log; `strongroom agreement predecessor OLD STORE` lets you do so."
    )


def _problem(old: Agreement, new: Agreement) -> str | None:
    try:
        check_successor(old, new)
    except SuccessionError as error:
        return str(error)
    return None


def _joining(old: Agreement, new: Agreement) -> list[SiloTerms]:
    keys = {silo.identity for silo in old.silos}
    return [silo for silo in new.silos if silo.identity not in keys]


def _names(silos: tuple[SiloTerms, ...] | list[SiloTerms]) -> str:
    return ", ".join(silo.name for silo in silos) or "nobody"


def _parse(file: Path) -> Agreement:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: expected a readable file, found {error.strerror or error}") from error
    return Agreement.parse(data, str(file))
