"""`strongroom agreement check | digest | model | diff | predecessor | approve`: read agreements, or make them.

`check` and `digest` need the base install only; `model` imports torch when it is run.
"""

import json
import os
from hashlib import sha256
from pathlib import Path

import click

from attestation.tee import Tee
from protocol.agreement import Agreement, SiloTerms
from protocol.agreement_render import render_model
from protocol.agreement_terms import ModelTerms
from protocol.agreement_toml import printable
from protocol.fields import format_digest
from strongroom.commands.agreement_succession import approve, diff, predecessor
from strongroom.commands.failure import Failure, failing_in_words

_PROTECTS_NOTHING = (
    "The TEEs are simulated: THIS PROTECTS NOTHING. Whoever runs the appliance can read every update. "
    "For trying out only."
)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """Check a federation's agreement, or make its [model] block."""


@command.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def check(file: Path, *, as_json: bool) -> None:
    """Check FILE and say in words what it means. Exits with 2 and one line on stderr if it is no agreement."""
    data = _read(file)
    with failing_in_words():
        agreement = Agreement.parse(data, str(file))
    click.echo(json.dumps(_summary(agreement), indent=2) if as_json else _in_words(agreement))


@command.command(short_help="Print the digest of FILE.")
@click.argument("file", type=_FILE)
def digest(file: Path) -> None:
    """Print the digest of FILE: the SHA-256 of its exact bytes, by which all parties know the agreement."""
    data = _read(file)
    with failing_in_words():
        Agreement.parse(data, str(file))
    click.echo(format_digest(sha256(data).digest()))


@command.command(short_help="Make the initial model of TASK.")
@click.argument("task", type=_FILE)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder to write to.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random weights.")
def model(task: Path, out: Path, seed: int) -> None:
    """Run TASK's build_model(), write layout.json and initial.safetensors, and print the [model] block."""
    # Ours before the user's folder comes onto sys.path.
    from silo_client.initial_model import encode_initial_model
    from silo_client.model import content_digest_of, layout_of, sections_of
    from strongroom.task import build_model

    with failing_in_words():
        module = build_model(task, seed)
        layout = layout_of(module)
        sections = sections_of(module, layout)
        initial = encode_initial_model(layout, sections)
    terms = ModelTerms(layout=layout.digest, initial=content_digest_of(layout, sections))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in (("layout.json", layout.encode()), ("initial.safetensors", initial)):
            _write(out / name, data)
            click.echo(f"wrote {out / name} ({len(data)} bytes)", err=True)
    except OSError as error:
        raise Failure(f"{out}: expected a writable folder, found {error.strerror or error}") from error
    click.echo(render_model(terms), nl=False)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: expected a readable file, found {error.strerror or error}") from error


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step: nobody finds half a model."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _summary(agreement: Agreement) -> dict[str, object]:
    return {
        "digest": format_digest(agreement.digest),
        "federation": agreement.federation.name,
        "simulated": agreement.simulated,
        "strategy": agreement.training.strategy,
        "rounds": agreement.federation.rounds,
        "local_steps": agreement.training.local_steps,
        "minimum_cohort": agreement.federation.minimum_cohort,
        "owners": list(agreement.owners),
        "cosigners": agreement.log.cosigners,
        "faulty": agreement.log.faulty,
        "tolerated_absences": agreement.tolerated_absences,
        "witnesses": [{"name": witness.name, "key": witness.verifier_key} for witness in agreement.log.witnesses],
        "required_witnesses": agreement.log.required_witnesses,
        "origin": agreement.log.origin,
        "appliance": [values.tee for values in agreement.appliance],
        "silos": [
            {
                "name": silo.name,
                "owner": silo.owner,
                "jurisdiction": silo.jurisdiction,
                "weight": silo.weight,
                "tees": _tee_names(silo),
            }
            for silo in agreement.silos
        ],
    }


def _in_words(agreement: Agreement) -> str:
    federation = agreement.federation
    appliance = ", ".join(dict.fromkeys(values.tee for values in agreement.appliance))
    lines = [
        click.style(f"The agreement of {federation.name!r} is in order.", bold=True),
        "",
        f"  digest     {format_digest(agreement.digest)}",
        f"  training   {_training_in_words(agreement)}",
        f"  appliance  {appliance}",
        f"  cohort     at least {federation.minimum_cohort} of {len(agreement.owners)} owners in every round",
        f"  quorum     {_quorum_in_words(agreement)}",
        *_witnesses_in_words(agreement),
        f"  log        {agreement.log.origin}",
        "",
        *_table([("silo", "owner", "jurisdiction", "weight", "tee"), *map(_row, agreement.silos)]),
    ]
    if without := [silo.name for silo in agreement.silos if not silo.needs_evidence]:
        lines += ["", f"Without a TEE, vouched for by their identity key alone: {', '.join(without)}."]
    if agreement.simulated:
        lines += ["", click.style(_PROTECTS_NOTHING, fg="red", bold=True)]
    return "\n".join(lines)


def _training_in_words(agreement: Agreement) -> str:
    training = agreement.training
    mu = "" if training.proximal_mu is None else f", μ {training.proximal_mu:g}"
    return (
        f"{training.strategy}: {agreement.federation.rounds} rounds of {training.local_steps} local steps, "
        f"learning rate {training.learning_rate:g}, at the server {training.server_learning_rate:g}{mu}"
    )


def _quorum_in_words(agreement: Agreement) -> str:
    absences = agreement.tolerated_absences
    absent = f"up to {absences} may be absent" if absences else "none may be absent"
    return (
        f"{agreement.log.cosigners} of {len(agreement.owners)} owners must cosign each release; {absent}; "
        f"up to {agreement.log.faulty} may collude or have lost their memory"
    )


def _witnesses_in_words(agreement: Agreement) -> list[str]:
    log = agreement.log
    if not log.witnesses:
        return []
    names = ", ".join(f"{witness.name} ({printable(witness.key_name)})" for witness in log.witnesses)
    required = f"{log.required_witnesses} of {len(log.witnesses)} must cosign each release as well"
    how = required if log.required_witnesses else "asked to cosign each release, and not waited for"
    return [f"  witnesses  {names}; {how}"]


def _row(silo: SiloTerms) -> tuple[str, ...]:
    return (silo.name, silo.owner, silo.jurisdiction, f"{silo.weight:g}", ", ".join(_tee_names(silo)))


def _tee_names(silo: SiloTerms) -> list[str]:
    return list(dict.fromkeys(Tee.NONE if values is None else values.tee for values in silo.tees))


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip() for row in rows
    ]


for _succession in (diff, predecessor, approve):
    command.add_command(_succession)
