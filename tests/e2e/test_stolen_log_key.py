"""Whoever holds the log's key, and every silo's cosignature, still can't make a silo depart from its own agreement.

No enclave does such a thing: a liar stands in its place, with evidence as good as the simulated ones are. Each silo's
process is new to the log, and trains on nothing.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from false_appliance import Liar
from lying_appliance import listening
from process_federation import ProcessFederation, Running, wait_until
from silo_appliance import SILO
from stopped_federation import TASK, Stopped

from audit.entries import Entry
from protocol.sealing import BlobKind
from silo_client.initial_model import read_initial_model

torch.set_num_threads(1)
DEPART = "; the appliance departs from the agreement: do not train on it"
LIES: dict[str, tuple[Callable[[Liar], Entry], str]] = {
    "more local steps": (
        lambda liar: liar.opened(local_steps=11),
        "agreement-mismatch: expected local_steps 10, as agreed, found 11" + DEPART,
    ),
    "a higher learning rate": (
        lambda liar: liar.opened(learning_rate=0.2),
        "agreement-mismatch: expected learning_rate 0.1, as agreed, found 0.2" + DEPART,
    ),
    "another strategy": (
        lambda liar: liar.opened(strategy="fedavg"),
        "agreement-mismatch: expected strategy scaffold, as agreed, found fedavg" + DEPART,
    ),
    "a longer deadline": (
        lambda liar: liar.opened(deadline_seconds=86400),
        "agreement-mismatch: expected round_deadline_seconds 3000, as agreed, found 86400" + DEPART,
    ),
    "a round too many": (
        lambda liar: liar.opened(41),
        "agreement-mismatch: expected rounds 1 to 40, as agreed, found 41" + DEPART,
    ),
    "another initial model": (
        lambda liar: liar.opened(model=bytes(32)),
        f", as agreed, found sha256:{'00' * 32}" + DEPART,
    ),
    "the end, after three rounds of forty": (
        lambda liar: liar.closed(rounds=3),
        "agreement-mismatch: expected rounds 40, as agreed, found 3" + DEPART,
    ),
}


def told(made: ProcessFederation, folder: Path, announce: Callable[[Liar], Entry]) -> Running:
    """A silo's process that hears this entry from a liar; returned once it has ended, or has begun a round."""
    liar = Liar(made)
    initial = read_initial_model(made.folder / "initial.safetensors", liar.layout, made.agreement.model.initial)
    sealed = liar.seal(initial, BlobKind.MODEL)
    (folder / "body.blob").write_bytes(bytes(sealed.blob))

    def message() -> bytes:
        entry = announce(liar)
        index = liar.append(entry)
        moment = (getattr(entry, "round", 40), getattr(entry, "attempt", 0))
        return liar.announcement(0, index=index, model=liar.body(sealed, moment=moment))

    with listening(liar, folder, message) as ports:
        made.write_silo(SILO, ports, file="liar.toml", state=f"liar-{folder.name}")
        files = (made.folder / SILO, made.folder / SILO / "gate", folder / "given.jsonl")
        run = made.run(SILO, "silo", "train", "--json", "--config", made.folder / SILO / "liar.toml", TASK, *files)
        wait_until(
            lambda: not run.running or any(event["event"] == "round" for event in run.events), "the silo to be told"
        )
    return run


@pytest.mark.parametrize("lie", LIES)
def test_a_silo_refuses(stopped: Stopped, tmp_path: Path, lie: str) -> None:
    announce, sentence = LIES[lie]
    run = told(stopped.federation, tmp_path, announce)
    assert run.exit_code() == 3
    assert run.errors.splitlines()[-1].endswith(sentence)
    assert not any(event["event"] in ("round", "finished") for event in run.events)


def test_the_same_liar_without_a_lie_is_believed(stopped: Stopped, tmp_path: Path) -> None:
    run = told(stopped.federation, tmp_path, lambda liar: liar.opened())
    assert [event["event"] for event in run.events][:2] == ["enrolled", "round"]
    run.kill()
