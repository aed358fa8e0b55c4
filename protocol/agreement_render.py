"""The blocks that a person pastes into `federation.toml`: what `strongroom agreement model` and `silo init` print.

What these write, `protocol.agreement` reads back to equal values; a property test holds both to it.
"""

from collections.abc import Sequence

from attestation.reference_values import ReferenceValues
from protocol.agreement_tees import render_tee
from protocol.agreement_terms import ModelTerms
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
