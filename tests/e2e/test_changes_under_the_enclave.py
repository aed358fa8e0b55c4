"""The operator changes store and spool under a running enclave, between two steps of a round.

The appliance is a real one (`strongroom appliance serve`) where its operator's lines count, and the enclave's process
behind the operator's own gateway where he must act between an upload and its judgement.
"""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from hostile_operator import Cheat, Enclave, Gateway
from process_federation import PATIENCE_SECONDS, Ports, Running
from stopped_federation import ALL, Scene, Stopped
from store_tampering import Tampering, behind_a_link, body, changed, checkpoint, note, of_a_file, removed, replaced

from audit.entries import Entry, RoundAbandoned, RoundCommitted, RoundPublished, UpdateRefused

torch.set_num_threads(1)


# A model of a round before


@dataclass
class Told:
    """What became of an appliance whose model was changed under its hands, and put right."""

    scene: Scene
    first: Running
    first_code: int
    log_after_first: list[Entry]
    second_code: int
    silos: dict[str, Running]


@pytest.fixture(scope="module")
def told(stopped: Stopped) -> Iterator[Told]:
    with stopped.scene("under-hand") as scene:
        yield story(stopped, scene)


def story(stopped: Stopped, scene: Scene) -> Told:
    made, ports = stopped.federation, Ports()
    made.write_appliance(ports, file="under-hand.toml", store=scene.store.name)
    first = made.serve("under-hand.toml")
    first.wait_for("ready")
    silos = {silo: scene.start(silo, ports) for silo in ALL}
    for silo in silos.values():
        silo.wait_for("round", round=4, attempt=2)
    model = body(scene.store, "model")
    kept = model.read_bytes()
    model.write_bytes(body(stopped.round_before, "model").read_bytes())
    scene.gate(4)
    first_code = first.exit_code()
    log_after_first = made.log(scene.store)
    model.write_bytes(kept)

    second = made.serve("under-hand.toml")
    for silo in silos.values():
        silo.wait_for("round", round=5)
    second.signal(signal.SIGTERM)
    return Told(
        scene=scene,
        first=first,
        first_code=first_code,
        log_after_first=log_after_first,
        second_code=second.exit_code(),
        silos=silos,
    )


def test_a_model_of_the_round_before_ends_the_enclave_before_it_publishes(told: Told) -> None:
    assert re.search(
        r"^enclave \| event=failed kind=BodyError at=bodies\.py:\d+\n(gateway \| event=enclave-lost\n)?"
        r"supervisor \| event=ended child=enclave status=1$",
        told.first.errors,
        re.MULTILINE,
    )
    assert isinstance(told.log_after_first[-1], RoundCommitted)
    assert told.log_after_first[-1].round == 4
    assert not any(isinstance(entry, RoundPublished) and entry.round == 4 for entry in told.log_after_first)


def test_the_next_start_names_the_model_and_is_the_last(told: Told) -> None:
    lines = told.first.errors.splitlines()
    refused = next(line for line in lines if line.startswith("enclave | event=start-refused "))
    assert re.search(
        r"sealed model 00000003-\S+\.model: another body than the one that the sealed state names\. "
        r"If .* is lost, start with --recover",
        refused,
    )
    assert lines[-1] == "supervisor | event=ended child=enclave status=3"
    assert told.first_code == 3


def test_with_the_right_model_back_the_round_is_made_again_and_nothing_is_lost(told: Told) -> None:
    log = told.scene.federation.log(told.scene.store)
    [published] = [entry for entry in log if isinstance(entry, RoundPublished) and entry.round == 4]
    assert published.attempt == 3
    assert [member.silo for member in published.cohort] == [*ALL]
    ends = [(entry.round, entry.attempt, entry.reason) for entry in log if isinstance(entry, RoundAbandoned)]
    assert ends == [(4, 1, "restart"), (4, 2, "restart")]
    assert told.second_code == 0
    assert all(silo.running for silo in told.silos.values())


def test_each_round_has_one_model_for_everybody(told: Told) -> None:
    told.scene.check_one_model_a_round()


def test_the_log_verifies_in_the_end(told: Told) -> None:
    check_audit(told.scene)


def check_audit(scene: Scene) -> None:
    verdict = scene.federation.command("audit", "verify", scene.store, "--agreement", "federation.toml")
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, "PASS (simulated: protects nothing)")


# Uploads in the spool, and the log


@dataclass
class Playing:
    """A scene in the middle of a round."""

    scene: Scene
    enclave: Enclave
    gateway: Gateway
    silos: dict[str, Running]


@contextmanager
def playing(stopped: Stopped, name: str) -> Iterator[Playing]:
    with stopped.scene(name) as scene:
        enclave = scene.boot().started()
        gateway = scene.operator.gateway(enclave)
        silos = scene.start_all(gateway)
        for silo in silos.values():
            silo.wait_for("round", round=4, attempt=2)
        yield Playing(scene, enclave, gateway, silos)


@pytest.fixture(scope="module")
def spooled(stopped: Stopped) -> Iterator[Playing]:
    with playing(stopped, "spool") as found:
        yield found


def once(silo: str, change: Callable[[Path], object]) -> Cheat:
    """Change a silo's next upload when it is complete, before the enclave opens it."""
    done: list[Path] = []

    def uploaded(name: str, blob: Path) -> None:
        if name == silo and not done:
            done.append(blob)
            change(blob)

    return Cheat(uploaded=uploaded)


def test_an_upload_that_is_changed_in_the_spool_is_sent_again(spooled: Playing) -> None:
    """The silo is held to nothing, and is in the cohort in the end."""
    scene, gateway, silos = spooled.scene, spooled.gateway, spooled.silos
    for silo, change in (("silo-0", behind_a_link), ("silo-1", removed), ("silo-2", changed(-100))):
        gateway.cheat = once(silo, change)
        scene.gate(4, silo)
        silos[silo].wait_for("submitted", round=4, attempt=2)
    scene.gate(5, "silo-3")
    silos["silo-3"].wait_for("round", round=5)
    log = scene.federation.log(scene.store)
    assert not any(isinstance(entry, UpdateRefused) for entry in log)
    [published] = [entry for entry in log if isinstance(entry, RoundPublished) and entry.round == 4]
    assert [member.silo for member in published.cohort] == [*ALL]


def test_another_silos_upload_in_the_place_of_ones_own(spooled: Playing) -> None:
    """It is refused, and logged against nobody; with the right bytes back the verdict is another one."""
    scene, gateway, silos = spooled.scene, spooled.gateway, spooled.silos
    arrived, own, swapped = threading.Event(), {}, threading.Event()

    def uploaded(silo: str, blob: Path) -> None:
        own[silo] = (blob, blob.read_bytes())
        if silo == "silo-0":
            arrived.set()
            swapped.wait(PATIENCE_SECONDS)
        elif silo == "silo-1" and not swapped.is_set():
            arrived.wait(PATIENCE_SECONDS)
            blob.write_bytes(own["silo-0"][1])

    gateway.cheat = Cheat(uploaded=uploaded)
    scene.gate(5)
    assert silos["silo-1"].exit_code() == 3
    swapped.set()
    assert silos["silo-1"].errors.splitlines()[-1] == (
        "wrong-sender: expected sender silo-1, found silo-0; send only what is sealed as oneself "
        "(so says the appliance, unsigned)"
    )
    assert not any(isinstance(entry, UpdateRefused) for entry in scene.federation.log(scene.store))
    blob, data = own["silo-1"]
    blob.write_bytes(data)
    scene.start("silo-1", gateway.ports).wait_for("round", round=6)
    [published] = [e for e in scene.federation.entries(RoundPublished, scene.store) if e.round == 5]
    assert [member.silo for member in published.cohort] == [*ALL]
    scene.check_one_model_a_round()


def test_a_checkpoint_of_a_round_before_ends_the_enclave_at_its_next_write(spooled: Playing, stopped: Stopped) -> None:
    """The next start puts it right (`test_changed_stores.py`), and so does the operator who copies the note back."""
    scene = spooled.scene
    checkpoint(scene.store).write_bytes(checkpoint(stopped.round_before).read_bytes())
    scene.gate(6, "silo-0")
    assert spooled.enclave.exit_code() == 1
    assert re.fullmatch(r"event=failed kind=LedgerFailure at=ledger\.py:\d+", spooled.enclave.last_line)
    checkpoint(scene.store).write_bytes(note(scene.store).read_bytes())
    check_audit(scene)


@pytest.mark.slow
def test_a_second_enclave_on_the_same_store_ends_the_first(stopped: Stopped) -> None:
    """No supervisor's lock is in their way. The first one's next write finds another checkpoint than its own."""
    with playing(stopped, "second") as found:
        found.scene.boot(beside=True).started().stop()
        found.scene.gate(4, "silo-0")
        assert found.enclave.exit_code() == 1
        assert re.fullmatch(r"event=failed kind=LedgerFailure at=ledger\.py:\d+", found.enclave.last_line)
        check_audit(found.scene)


MODEL, CONTROL = partial(body, kind="model"), partial(body, kind="control")
UNDER_HAND: dict[str, tuple[Tampering, str]] = {
    "the model's ciphertext": (of_a_file(MODEL, changed(-90)), "SignatureError at=content_key.py"),
    "the control's ciphertext": (of_a_file(CONTROL, changed(-90)), "SignatureError at=content_key.py"),
    "the control of a round before": (replaced(CONTROL), "BodyError at=bodies.py"),
    "the control, removed": (of_a_file(CONTROL, removed), "BodyError at=bodies.py"),
    "the bodies, behind a link": (lambda store, before: behind_a_link(store / "models"), "BodyError at=bodies.py"),
    "the checkpoint, removed": (of_a_file(checkpoint, removed), "LedgerFailure at=ledger.py"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", UNDER_HAND)
def test_the_enclave_ends_before_it_publishes_on_another(stopped: Stopped, what: str) -> None:
    tamper, words = UNDER_HAND[what]
    with playing(stopped, f"hand-{list(UNDER_HAND).index(what)}") as found:
        tamper(found.scene.store, stopped.round_before)
        found.scene.gate(4)
        assert found.enclave.exit_code() == 1
        assert re.fullmatch(rf"event=failed kind={re.escape(words)}:\d+", found.enclave.last_line)
        published = stopped.federation.entries(RoundPublished, found.scene.store)
        assert not any(entry.round == 4 for entry in published)
        found.scene.check_one_model_a_round()
