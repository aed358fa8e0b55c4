"""An agreement as text: whole, and the blocks that `strongroom agreement model` and `silo init` print to be pasted.

What these write, `protocol.agreement` reads back to equal values; a property test holds both to it.
"""

from collections.abc import Sequence

from attestation.reference_values import ReferenceValues
from protocol.agreement_tees import render_tee
from protocol.agreement_terms import Federation, LogTerms, ModelTerms, Privacy, Training, UpdateTerms, WitnessTerms
from protocol.agreement_toml import toml_string
from protocol.fields import format_digest
from protocol.keys import VerifyingKey


def render_model(model: ModelTerms) -> str:
    """The `[model]` block, ending in a line end."""
    return "\n".join(
        [
            "[model]",
            f"layout = {toml_string(format_digest(model.layout))}",
            f"initial = {toml_string(format_digest(model.initial))}",
            "",
        ]
    )


def render_silo(
    *,
    name: str,
    owner: str,
    jurisdiction: str,
    identity: VerifyingKey,
    weight: float,
    tees: Sequence[ReferenceValues | None],
) -> str:
    """One `[[silo]]` block with its `[[silo.tee]]` tables (None for `tee = "none"`), ending in a line end."""
    block = "\n".join(
        [
            "[[silo]]",
            f"name = {toml_string(name)}",
            f"owner = {toml_string(owner)}",
            f"jurisdiction = {toml_string(jurisdiction)}",
            f"identity = {toml_string(str(identity))}",
            f"weight = {float(weight)!r}",
            "",
        ]
    )
    return "\n".join([block, *(render_tee(tee, "silo.tee") for tee in tees)])


def render_witness(witness: WitnessTerms) -> str:
    """One `[[log.witness]]` block, ending in a line end."""
    return "\n".join(
        [
            "[[log.witness]]",
            f"name = {toml_string(witness.name)}",
            f"key = {toml_string(witness.verifier_key)}",
            "",
        ]
    )


def render_agreement(
    *,
    federation: Federation,
    model: ModelTerms,
    training: Training,
    update: UpdateTerms,
    privacy: Privacy,
    log: LogTerms,
    appliance: Sequence[ReferenceValues],
    silos: Sequence[str],
) -> str:
    """A whole `federation.toml`; `silos` are blocks of `render_silo`."""
    proximal = [] if training.proximal_mu is None else [f"proximal_mu = {training.proximal_mu!r}"]
    head = [
        "[federation]",
        f"name = {toml_string(federation.name)}",
        f"minimum_cohort = {federation.minimum_cohort}",
        f"rounds = {federation.rounds}",
        f"enrolment_deadline_seconds = {federation.enrolment_deadline_seconds}",
        f"round_deadline_seconds = {federation.round_deadline_seconds}",
        f"credential_seconds = {federation.credential_seconds}",
        "",
        render_model(model),
        "[training]",
        f"strategy = {toml_string(training.strategy)}",
        f"local_steps = {training.local_steps}",
        f"learning_rate = {training.learning_rate!r}",
        f"server_learning_rate = {training.server_learning_rate!r}",
        *proximal,
        "",
        "[update]",
        f"encoding = {toml_string(update.encoding)}",
        f"maximum_norm = {update.maximum_norm!r}",
        "",
        "[privacy]",
        f"mechanism = {toml_string(privacy.mechanism)}",
        "",
        "[log]",
        f"origin = {toml_string(log.origin)}",
        f"cosigners = {log.cosigners}",
        f"faulty = {log.faulty}",
        *([f"witnesses = {log.required_witnesses}"] if log.witnesses else []),
        "",
        *(render_witness(witness) for witness in log.witnesses),
        *(render_tee(tee, "appliance.tee") for tee in appliance),
    ]
    return "\n".join([*head, *silos])
