"""Forks and rollbacks, played by an operator who owns the store and starts as many enclaves as he likes.

Two stories. In the first he runs a round again without one silo, from a copy that he took before its commit, and later
begins a second log. In the second he shows two copies of the store to different silos, helped by a silo that cosigns
both. In each he gets one history out, for one cohort a round, and the silos that saw another name it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from hostile_operator import Cheat, Gateway
from process_federation import Running, exit_codes, wait_until
from silo_by_hand import HandSilo, drive
from stopped_federation import ALL, Scene, Stopped

from audit.entries import Entry, LogGenesis, RoundOpened, RoundPublished, SiloAdmitted
from audit.note import Checkpoint
from protocol.session import Cosigned, parse_from_silo

torch.set_num_threads(1)
HELPER = "silo-2"
PASS, FAIL = "PASS (simulated: protects nothing)", "FAIL (simulated: protects nothing)"


def last_line(run: Running) -> str:
    return run.errors.splitlines()[-1]


def rounds_of(run: Running) -> list[tuple[int, int]]:
    return [(event["round"], event["attempt"]) for event in run.events if event["event"] == "round"]


def audited(scene: Scene, store: Path, *arguments: str | Path) -> CompletedProcess[str]:
    return scene.federation.command("audit", "verify", store, "--agreement", "federation.toml", *arguments)


def evidence(scene: Scene, silo: str, code: str) -> Path:
    """The folder in which a silo keeps both notes, and mostly a fraud proof."""
    [folder] = (scene.federation.folder / silo / scene.name).glob(f"*/evidence/{code}-*")
    # From a size that is a power of two the two notes alone prove nothing.
    assert {path.name for path in folder.iterdir()} - {"fork.fraud"} == {"ours.note", "theirs.note"}
    size = Checkpoint.parse((folder / "ours.note").read_bytes()).size
    assert (folder / "fork.fraud").exists() == (code == "log-forked" and bool(size & (size - 1)))
    return folder


def proves_fraud(scene: Scene, file: Path) -> bool:
    """What a stranger with the agreement makes of it."""
    done = scene.federation.command("audit", "verify-fraud", file, "--agreement", "federation.toml", "--json")
    return done.returncode == 0 and json.loads(done.stdout)["proved"] is True


class Withholding:
    """Cosignatures go no further than the operator; `heard`: whose they were."""

    def __init__(self) -> None:
        self.heard: set[str] = set()
        self.cheat = Cheat(from_silo=self._from_silo)

    def _from_silo(self, silo: str, message: bytes) -> list[bytes]:
        if not isinstance(parse_from_silo(message), Cosigned):
            return [message]
        self.heard.add(silo)
        return []


# A round run again without one silo, and a second log


@dataclass
class Again:
    """How it went."""

    scene: Scene
    announced_before: dict[str, int]
    announced_after: dict[str, int]
    first_log: list[Entry]
    copy: Path
    copy_log: list[Entry]
    rolled_back: dict[str, Running]
    forked: dict[str, Running]
    went_on: dict[str, Running]
    anew: Path


@pytest.fixture(scope="module")
def again(stopped: Stopped) -> Iterator[Again]:
    with stopped.scene("again") as scene:
        yield run_again(stopped, scene)


def run_again(stopped: Stopped, scene: Scene) -> Again:
    made, operator = stopped.federation, stopped.operator
    first = scene.boot().started()
    gateway = operator.gateway(first)
    silos = {silo: scene.line(silo, gateway) for silo in ALL}
    for silo in silos.values():
        silo.wait_for("round", round=4, attempt=2)
    copy = first.copied("again-copy")
    on_the_copy = scene.boot(copy)

    # With silo-3 in: published, cosigned by all, and held back.
    withholding = Withholding()
    gateway.cheat = withholding.cheat
    announced_before = announced(gateway)
    scene.gate(4)
    wait_until(lambda: withholding.heard == set(ALL), "everybody to cosign the end of round 4")
    first.kill()
    announced_after = announced(gateway)
    first_log = made.log(scene.store)

    # Again, without silo-3, from the copy; then from a copy that has grown longer than what the silos have seen.
    second = operator.gateway(on_the_copy.started())
    scene.lines["silo-3"].lead_to(None)
    for silo in ALL[:3]:
        scene.lines[silo].lead_to(second.ports)
    codes = exit_codes([silos[silo] for silo in ALL[:3]])
    assert codes == dict.fromkeys(ALL[:3], 4)
    helper = HandSilo(made, HELPER, ports=second.ports)
    while len(made.log(copy)) <= len(first_log):
        helper.enrol()
    helper.join()
    forked = {silo: scene.line(silo, second) for silo in ALL[:2]}
    drive([helper], lambda: not any(run.running for run in forked.values()), "silos to name the fork")
    copy_log, copied_announcements = made.log(copy), announced(second)
    assert copied_announcements == {}
    silos["silo-3"].kill()
    operator.end()

    # The newest store once more; and in the middle of the next round, none.
    anew = made.folder / "appliance" / "again-anew"
    newest, empty = scene.boot(), scene.boot(anew)
    third = operator.gateway(newest.started())
    went_on = {silo: scene.line(silo, third) for silo in ALL}
    for silo in went_on.values():
        silo.wait_for("round", round=5)
    fourth = operator.gateway(empty.started())
    for silo in ALL:
        scene.lines[silo].lead_to(fourth.ports)
    scene.gate(5)
    exit_codes(list(went_on.values()))
    return Again(
        scene=scene,
        announced_before=announced_before,
        announced_after=announced_after,
        first_log=first_log,
        copy=copy,
        copy_log=copy_log,
        rolled_back={silo: silos[silo] for silo in ALL[:3]},
        forked=forked,
        went_on=went_on,
        anew=anew,
    )


def announced(gateway: Gateway) -> dict[str, int]:
    """How often something was announced to each silo: nothing else releases a model."""
    counts = {silo: len(gateway.announcements(silo)) for silo in ALL}
    return {silo: count for silo, count in counts.items() if count}


def test_a_round_whose_cosignatures_are_held_back_is_published_and_not_released(again: Again) -> None:
    published = [entry for entry in again.first_log if isinstance(entry, RoundPublished) and entry.round == 4]
    assert [member.silo for member in published[0].cohort] == [*ALL]
    assert isinstance(again.first_log[-1], RoundOpened)
    assert again.announced_after == again.announced_before == dict.fromkeys(ALL, 1)
    assert rounds_of(again.rolled_back["silo-0"]) == [(4, 2)]


def test_run_again_from_a_copy_of_before_every_silo_names_the_rollback(again: Again) -> None:
    for run in again.rolled_back.values():
        assert last_line(run).startswith("log-rolled-back: expected a log of at least the ")
        assert "; the appliance runs on an older copy of its store: restore the newest one (" in last_line(run)


def test_on_a_copy_that_has_grown_meanwhile_they_name_the_fork(again: Again) -> None:
    """One silo had lost its memory, and cosigned: two owners are no quorum."""
    assert {run.exit_code() for run in again.forked.values()} == {4}
    for silo, run in again.forked.items():
        assert last_line(run).startswith("log-forked: expected a log that extends the ")
        assert "; the appliance shows two histories: stop, and " in last_line(run)
        assert rounds_of(run) == []
        fraud = evidence(again.scene, silo, "log-forked") / "fork.fraud"
        if fraud.exists():
            assert "send fork.fraud to the other silos, who check it: strongroom audit verify-fraud" in last_line(run)
            assert proves_fraud(again.scene, fraud)


def test_nobody_gets_the_round_without_that_silo(again: Again) -> None:
    assert not any(isinstance(entry, RoundPublished) and entry.round == 4 for entry in again.copy_log)
    again.scene.check_one_model_a_round()


def test_with_the_newest_store_everybody_goes_on_with_the_round_that_was_held_back(again: Again) -> None:
    for run in again.went_on.values():
        [outcome] = [event for event in run.events if event["event"] == "outcome"]
        assert outcome["text"] == "round 4 was published, with this silo's update"
    log = again.scene.federation.log(again.scene.store)
    assert log[: len(again.first_log)] == again.first_log
    assert [entry.attempt for entry in log if isinstance(entry, RoundPublished) and entry.round == 4] == [2]


def test_a_second_genesis_in_the_middle_of_a_round_is_refused_by_every_silo(again: Again) -> None:
    assert exit_codes(list(again.went_on.values())) == dict.fromkeys(ALL, 4)
    for run in again.went_on.values():
        assert last_line(run).startswith(
            "other-log: expected the log that this silo has known from the beginning, with the key ed25519:"
        )
        assert ", found a second genesis under the same agreement, with the key ed25519:" in last_line(run)
        assert not any(event["event"] == "submitted" and event["round"] == 5 for event in run.events)


def test_the_second_log_hears_nothing_of_the_round(again: Again) -> None:
    log = again.scene.federation.log(again.anew)
    assert isinstance(log[0], LogGenesis)
    assert not any(isinstance(entry, SiloAdmitted) for entry in log)
    assert not list((again.anew / "spool").rglob("*.blob"))


def test_the_audit_passes_each_history_and_fails_the_copy_against_what_a_silo_has_kept(again: Again) -> None:
    for store in (again.scene.store, again.copy):
        verdict = audited(again.scene, store)
        assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, PASS)
    ours = evidence(again.scene, "silo-1", "log-forked") / "ours.note"
    assert audited(again.scene, again.scene.store, "--head", ours).returncode == 0
    verdict = audited(again.scene, again.copy, "--head", ours)
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (1, FAIL)
    assert "ours.note" in verdict.stdout.splitlines()[1]


# Two copies at once


@dataclass
class Split:
    """How it went."""

    scene: Scene
    left: Path
    right: Path
    announced_by_either: dict[str, int] = field(default_factory=dict)
    moved: Running | None = None
    runs: dict[str, Running] = field(default_factory=dict)


@pytest.fixture(scope="module")
def split(stopped: Stopped) -> Iterator[Split]:
    with stopped.scene("split") as scene:
        yield two_at_once(stopped, scene)


def two_at_once(stopped: Stopped, scene: Scene) -> Split:
    made, operator = stopped.federation, stopped.operator
    left, right = scene.store, scene.copy("split-right")
    enclaves = [scene.boot(store) for store in (left, right)]
    one, other = (operator.gateway(enclave.started()) for enclave in enclaves)
    found = Split(scene=scene, left=left, right=right)

    # 1 and 3: silo-1 is only lent to the right one, which may ask nobody but silo-3 and the helper.
    votes: set[str] = set()

    def noting(silo: str, message: bytes) -> list[bytes]:
        if isinstance(parse_from_silo(message), Cosigned):
            votes.add(silo)
        return [message]

    other.cheat = Cheat(to_silo=lambda silo, message: [message] if silo in (HELPER, "silo-3") else [], from_silo=noting)
    runs = {
        silo: scene.line(silo, gateway) for silo, gateway in (("silo-0", one), ("silo-1", other), ("silo-3", other))
    }
    helper = HandSilo(made, HELPER, ports=other.ports)
    helper.join()
    drive([helper], lambda: votes == {HELPER, "silo-3"}, "the helper and silo-3 to cosign the right history")

    # 2 and 2: the helper stays on the right.
    scene.lines["silo-1"].lead_to(one.ports)
    wait_until(lambda: len(admitted_since_the_copy(scene, left)) == 2, "silo-1 to be admitted on the left")
    found.announced_by_either = announced(one) | announced(other)

    # 3 and 1: the helper cosigns the left history too.
    two_faced = HandSilo(made, HELPER, ports=one.ports)
    two_faced.join()
    drive([two_faced], lambda: two_faced.opened, "the left one to open the round")
    two_faced.submit(two_faced.good(parent=last_used(scene, HELPER)))
    scene.gate(4)
    drive([two_faced], lambda: len(rounds_of(runs["silo-0"])) == len(rounds_of(runs["silo-1"])) == 2, "round 5")

    # The one who was on the other side is moved over.
    scene.lines["silo-3"].lead_to(one.ports)
    runs["silo-3"].exit_code()
    found.moved, found.runs = runs.pop("silo-3"), runs
    return found


def last_used(scene: Scene, silo: str) -> bytes:
    """The upload id that the silo's next update has to name."""
    cohort = scene.federation.entries(RoundPublished, scene.store)[-1].cohort
    return next(member.upload_id for member in cohort if member.silo == silo)


def admitted_since_the_copy(scene: Scene, store: Path) -> list[str]:
    entries = scene.federation.entries(SiloAdmitted, store)
    return [entry.silo for entry in entries if entry.boot_id == entries[-1].boot_id != entries[0].boot_id]


def test_neither_of_two_instances_releases_anything_to_two_silos_each(split: Split) -> None:
    assert split.announced_by_either == {}
    log = split.scene.federation.log(split.right)
    assert isinstance(log[-1], RoundOpened)
    assert (log[-1].round, log[-1].attempt) == (4, 2)


def test_with_three_on_one_side_that_side_goes_on(split: Split) -> None:
    published = [entry for entry in split.scene.federation.entries(RoundPublished, split.left) if entry.round == 4]
    assert [[member.silo for member in entry.cohort] for entry in published] == [["silo-0", "silo-1", HELPER]]
    assert all(run.running for run in split.runs.values())
    assert {silo: rounds_of(run) for silo, run in split.runs.items()} == {
        silo: [(4, 2), (5, 1)] for silo in ("silo-0", "silo-1")
    }


def test_and_the_other_side_does_not(split: Split) -> None:
    assert not [entry for entry in split.scene.federation.entries(RoundPublished, split.right) if entry.round == 4]


def test_a_silo_that_was_shown_the_other_history_names_the_fork_when_it_is_moved_over(split: Split) -> None:
    assert split.moved is not None
    assert split.moved.exit_code() == 4
    assert last_line(split.moved).startswith("log-forked: expected a log that extends the ")
    assert split.moved.events[-1]["code"] == "log-forked"
    assert rounds_of(split.moved) == []
    assert evidence(split.scene, "silo-3", "log-forked").name in last_line(split.moved)


def test_each_round_has_one_model_however_many_instances_there_are(split: Split) -> None:
    split.scene.check_one_model_a_round()


def test_the_notes_that_it_keeps_convict_one_store_before_any_auditor(split: Split) -> None:
    folder = evidence(split.scene, "silo-3", "log-forked")
    for store in (split.left, split.right):
        assert audited(split.scene, store).returncode == 0
    assert audited(split.scene, split.left, "--head", folder / "theirs.note").returncode == 0
    assert audited(split.scene, split.right, "--head", folder / "ours.note").returncode == 0
    for store, kept in ((split.left, "ours.note"), (split.right, "theirs.note")):
        verdict = audited(split.scene, store, "--head", folder / kept)
        assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (1, FAIL)
        assert kept in verdict.stdout.splitlines()[1]


def test_two_silos_notes_of_the_fork_and_one_store_become_a_fraud_proof_for_strangers(
    split: Split, tmp_path: Path
) -> None:
    """One silo's head is of the right history, another's of the left; either store holds what lies between."""
    scene = split.scene
    ours = evidence(scene, "silo-3", "log-forked") / "ours.note"
    head = scene.federation.command(
        "silo", "head", "--config", scene.federation.folder / "silo-0" / f"{scene.name}.toml"
    )
    assert head.returncode == 0, head.stderr
    theirs = tmp_path / "silo-0.note"
    theirs.write_text(head.stdout)
    for sides in ((ours, theirs, "--vouch", split.left), (split.left, split.right)):
        file = tmp_path / "found.fraud"
        compared = scene.federation.command("audit", "compare", *sides, "--agreement", "federation.toml", "--out", file)
        assert compared.returncode == 1, compared.stdout + compared.stderr
        assert proves_fraud(scene, file)
    # An older head of the same history convicts nobody.
    compared = scene.federation.command("audit", "compare", theirs, split.left, "--agreement", "federation.toml")
    assert compared.returncode == 0, compared.stdout
