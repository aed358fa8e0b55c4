"""What tests of `strongroom.simulate` need: a folder with an agreement over any torch module."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from agreement_examples import good_agreement

from protocol.agreement_render import render_model
from protocol.agreement_terms import ModelTerms
from silo_client.initial_model import encode_initial_model
from silo_client.model import content_digest_of, layout_of, sections_of


def write_federation(folder: Path, network: torch.nn.Module, replace: Mapping[str, str], **arguments: object) -> Path:
    """federation.toml, layout.json and initial.safetensors for a module; `replace` changes the example's text."""
    layout = layout_of(network)
    sections = sections_of(network, layout)
    terms = ModelTerms(layout=layout.digest, initial=content_digest_of(layout, sections))
    text = good_agreement(**arguments)  # type: ignore[arg-type]
    head, _, rest = text.partition("[model]")
    text = head + render_model(terms) + "\n[training]" + rest.partition("[training]")[2]
    for old, new in replace.items():
        if old not in text:
            raise ValueError(f"the example has no {old!r}")
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "federation.toml").write_text(text)
    (folder / "layout.json").write_bytes(layout.encode())
    (folder / "initial.safetensors").write_bytes(encode_initial_model(layout, sections))
    return folder / "federation.toml"


def terms(
    *, rounds: int, steps: int, eta: float, strategy: str = "scaffold", server_eta: float = 1.0
) -> dict[str, str]:
    """Replacements for the example's hyper-parameters."""
    replace = {
        "rounds = 40": f"rounds = {rounds}",
        "local_steps = 10": f"local_steps = {steps}",
        "learning_rate = 0.1\n": f"learning_rate = {eta}\n",
        "server_learning_rate = 1\n": f"server_learning_rate = {server_eta}\n",
    }
    if strategy != "scaffold":
        replace['"scaffold"'] = f'"{strategy}"' + ("\nproximal_mu = 0.3" if strategy == "fedprox" else "")
    return replace


def flat(state: Mapping[str, torch.Tensor]) -> np.ndarray:
    """A state dict as one float64 vector."""
    return np.concatenate([tensor.double().numpy().ravel() for tensor in state.values()])
