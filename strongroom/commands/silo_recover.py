"""`strongroom silo recover`: authorise an appliance that has lost its keys to go on with the log, under new ones.

What is at stake is said before it is asked for; nothing is signed without the user's word (`--yes`, or at the prompt).
"""

import json
import os
import time
from pathlib import Path

import click

from audit.note import Checkpoint
from protocol.fields import format_digest
from protocol.keys import VerifyingKey
from protocol.recovery import Loss, RecoveryOffer, RecoveryStanding
from silo_client.config import SiloConfig
from silo_client.notice import say_if_simulated
from strongroom.commands.silo_exit import silo_failing_in_words

_FILE = click.Path(path_type=Path, dir_okay=False)


class Declined(click.ClickException):
    """The user did not agree: exit code 1."""

    exit_code = 1


@click.command("recover", short_help="Let an appliance that lost its keys go on with the log.")
@click.option("--config", "file", type=_FILE, default=Path("silo.toml"), show_default=True, help="The silo's settings.")
@click.option("--yes", is_flag=True, help="Authorise without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; without --yes, only what would be lost.")
def command(file: Path, *, yes: bool, as_json: bool) -> None:
    """Authorise the appliance to go on with the federation's log under new keys, after it has lost the old ones.

    It must have been started with --recover. This silo appraises it, checks that nothing which the silo has seen is
    missing from its log, says what is lost, and asks. Once enough owners have agreed, training goes on: start
    `strongroom silo train` again.

    Exits with 0 if the recovery was authorised, 1 if the appliance is out of reach or you did not agree, 2 if the
    silo's files are wrong, 3 if either side refuses the other, 4 if the log was rolled back, forked or replaced.
    """
    from silo_client.opening import Opened, alone
    from silo_client.recovery import RecoveryDialog

    with silo_failing_in_words():
        opened = Opened.load(SiloConfig.load(file))
        say_if_simulated(opened.agreement)
        with alone(opened.config):
            state, channel = opened.state(), opened.channel()
            dialog = RecoveryDialog(
                agreement=opened.agreement,
                silo=opened.config.name,
                identity=opened.files.identity,
                state=state,
                models=opened.models(state).held(),
                random=os.urandom,
            )
            offer = dialog.converse(channel.hello, int(time.time()))
            known = 0 if state.head is None else state.head.size
            facts = _facts(opened.config.name, offer, known)
            if as_json and not yes:
                click.echo(json.dumps({**facts, "granted": False}, indent=2))
                return
            if not as_json:
                click.echo(_in_words(opened.agreement.federation.name, offer, known))
            if not yes and not click.confirm("Authorise it?", err=True):
                raise Declined("nothing was authorised")
            standing = dialog.stands(channel.enrol(dialog.grant()))
    if as_json:
        found = {
            **facts,
            "granted": True,
            "owners": list(standing.owners),
            "required": standing.required,
            "recovered": standing.recovered,
        }
        click.echo(json.dumps(found, indent=2))
    else:
        click.secho(_standing_in_words(standing), bold=True)


def _facts(silo: str, offer: RecoveryOffer, known: int) -> dict[str, object]:
    checkpoint, loss = Checkpoint.parse(offer.checkpoint.encode()), offer.loss
    return {
        "silo": silo,
        "agreement": format_digest(offer.agreement),
        "log": offer.origin,
        "log_size": checkpoint.size,
        "known_size": known,
        "root": checkpoint.root.hex(),
        "boot_id": offer.boot_id.hex(),
        "lost_log_key": str(VerifyingKey(offer.previous)),
        "log_key": str(offer.keys.log_key),
        "lost": {
            "attempt": None if loss.attempt is None else {"round": loss.attempt.round, "attempt": loss.attempt.attempt},
            "controls": loss.controls,
            "published_rounds": loss.rounds,
            "model_of_round": {"this_silo": loss.yours, "any_silo_so_far": loss.held},
        },
    }


def _in_words(federation: str, offer: RecoveryOffer, known: int) -> str:
    checkpoint, loss = Checkpoint.parse(offer.checkpoint.encode()), offer.loss
    lines = [
        f"The appliance of {federation!r} has lost its log key, and asks to go on with the log under a new one.",
        f"  log      {checkpoint.size} entries, all {known} that this silo knows among them",
        f"  key      {VerifyingKey(offer.previous)} is lost",
        f"           {offer.keys.log_key} takes its place; evidence vouches for it",
        "What is lost:",
    ]
    if loss.attempt is not None:
        lines.append(
            f"  attempt  {loss.attempt.attempt} of round {loss.attempt.round}: it is abandoned, and trained again"
        )
    if loss.controls:
        lines.append("  controls all of them: every silo's control variate begins at zero")
    lines += [f"  model    {line}" for line in _model_in_words(loss)]
    return "\n".join(lines)


def _model_in_words(loss: Loss) -> list[str]:
    if loss.rounds == 0:
        return ["nothing: no round was published"]
    if loss.yours == loss.rounds:
        return [f"nothing: this silo holds that of round {loss.rounds}, the newest"]
    here = "none" if loss.yours is None else "the initial one" if loss.yours == 0 else f"that of round {loss.yours}"
    if loss.held == loss.rounds:
        return [
            f"nothing, if a silo that holds that of round {loss.rounds}, the newest, authorises too",
            f"(this silo holds {here})",
        ]
    first = (loss.held or 0) + 1
    rounds = f"round {first}" if first == loss.rounds else f"rounds {first} to {loss.rounds}"
    return [
        f"what {rounds} added: no silo that has asked so far holds it (this silo holds {here});",
        "let a silo that does authorise before the last one, if there is any",
    ]


def _standing_in_words(standing: RecoveryStanding) -> str:
    by = f"{len(standing.owners)} of {standing.required} owners have authorised it ({', '.join(standing.owners)})"
    if standing.recovered is None:
        return f"{by}; the appliance waits for the others."
    return f"{by}; the log goes on at {standing.recovered} entries. Start `strongroom silo train` again."
