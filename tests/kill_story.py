"""A federation that is killed in one state after another (`kill_moments.py`), and what it has come to at the end."""

import json
import runpy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from fates import Fates
from kill_moments import MOMENTS
from kill_stage import TASK, PulledRows, Stage, Strike
from least_squares_oracle import Oracle, Result, cohorts
from process_federation import ProcessFederation, federation

from audit.entries import (
    ApplianceStarted,
    ControlReset,
    Entry,
    RoundAbandoned,
    RoundPublished,
)
from audit.phases import Phase
from audit.store import DirectoryStore
from protocol.layout import Layout
from silo_client.bodies import read_control
from silo_client.model import parameter_views
from silo_client.state import SiloState

DIMENSION, STEPS, ETA = 9, 3, 0.1
WEIGHTS = (1.0, 2.0, 1.0, 3.0)
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")


@dataclass(frozen=True)
class Story:
    """What a federation came to, with the kills in it."""

    made: ProcessFederation
    stage: Stage
    strikes: tuple[Strike, ...]
    exit_codes: dict[str, int]
    rows: list[PulledRows]
    initial: np.ndarray
    log: list[Entry]

    def strike(self, moment: str, victim: str) -> Strike:
        return next(strike for strike in self.strikes if (strike.moment, strike.victim) == (moment, victim))

    def after(self, strike: Strike) -> list[Entry]:
        """The log from a kill to the publication of the round that it hit, or to the next kill."""
        following = [other.log_size for other in self.strikes if other.log_size > strike.log_size]
        since, published = self.log[strike.log_size : min(following, default=None)], self._published(strike.number)
        ends = [i for i, entry in enumerate(since) if entry == published]
        return since[: ends[0] + 1] if ends else since

    def check_published(self, strike: Strike) -> None:
        """The round that the kill hit was published with every survivor."""
        published = self._published(strike.number)
        assert published is not None
        assert {member.silo for member in published.cohort} >= set(strike.survivors or self.made.names)

    def check_abandoned(self, strike: Strike) -> None:
        """An attempt is abandoned only where its round key, in an enclave's memory, was lost."""
        since = self.after(strike)
        abandoned = [entry.reason for entry in since if isinstance(entry, RoundAbandoned)]
        restarted = any(isinstance(entry, ApplianceStarted) for entry in since)
        lost = restarted and strike.phase in (Phase.COLLECTING, Phase.COMMITTED)
        # Who is asked to end, and not killed, may get to the end of a merge.
        if strike.victim == "operator" and strike.moment in ("all-accepted", "merging", "merged-not-published"):
            assert abandoned in ([], ["restart"])
            return
        assert restarted == (strike.victim not in ("gateway", "silo") or strike.moment == "enclave-away")
        assert abandoned == (["restart"] if lost else [])

    def check_pending(self, strike: Strike) -> None:
        """What a killed silo had sealed was used as it was."""
        pending = strike.pending
        if pending is not None:
            published = self._published(pending.round)
            assert published is not None
            assert pending.upload_id in {member.upload_id for member in published.cohort}

    def _published(self, number: int) -> RoundPublished | None:
        return next((e for e in self.log if isinstance(e, RoundPublished) and e.round == number), None)

    def check_the_end(self) -> None:
        """Every round is published once, the audit passes, all silos end with the same model."""
        made = self.made
        assert made.published() == list(range(1, self.stage.rounds + 1))
        verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml", party="silo-0")
        assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, "PASS (simulated: protects nothing)")
        assert self.exit_codes == dict.fromkeys(made.names, 0)
        assert len({(made.folder / name / "final.json").read_text() for name in made.names}) == 1

    def check_nothing_is_lost(self) -> None:
        """Every update that was accepted is used once, or was repeated."""
        fates = self.fates()
        assert fates.losses == []
        assert fates.refused == {}
        assert fates.repeated == fates.accepted - fates.used

    def check_the_oracle(self) -> None:
        """Model and control variates are the papers'."""
        expected = self.oracle()
        assert expected.travelled > 1
        expected.check_model(self.final_model(self.made.names[0]))
        for i, name in enumerate(self.made.names):
            expected.check_control(i, self.control(name))
        assert not self.made.entries(ControlReset)

    def fates(self) -> Fates:
        """What became of every update."""
        silos = [run for run in self.made.runs if run.name in self.made.names]
        return Fates.of(self.log, [(run.name, run.events) for run in silos])

    def oracle(self) -> Result:
        """The papers' boxes for the log's cohorts."""
        terms = Oracle(rows=self.rows, weights=WEIGHTS, steps=STEPS, eta=ETA, server_eta=1.0)
        return terms.run(self.initial, cohorts(self.made))

    def final_model(self, name: str) -> np.ndarray:
        """As the silo's script wrote it down; all coordinates of the ballast must be one number."""
        found = json.loads((self.made.folder / name / "final.json").read_text())
        least, greatest = found["ballast"]
        assert least == greatest
        return np.array([*found["weight"], least])

    def control(self, name: str) -> np.ndarray:
        """c_i from the silo's folder, in the oracle's order."""
        files = DirectoryStore(self.made.folder / name / "state")
        layout = Layout.parse((self.made.folder / "layout.json").read_bytes())
        state = SiloState.read_only(files, agreement=self.made.agreement.digest, silo=name)
        views = parameter_views(layout, read_control(state, layout))
        files.close()
        assert views["ballast"].unique().numel() == 1
        return np.append(views["linear.weight"].double().numpy().ravel(), views["ballast"][0].item())


@contextmanager
def story(played: Sequence[tuple[str, str]]) -> Iterator[Story]:
    """Play (moment, victim) after (moment, victim), and let the federation end."""
    torch.manual_seed(7)
    replace = {
        "rounds = 40": f"rounds = {len(played) + 10}",
        "local_steps = 10": f"local_steps = {STEPS}",
        "maximum_norm = 100.0": "maximum_norm = 100000.0",
    }
    network: torch.nn.Module = runpy.run_path(str(TASK))["Net"](DIMENSION)
    initial = np.append(network.linear.weight.detach().double().numpy().ravel(), 0.5)  # type: ignore[union-attr, operator]
    weights = tuple(map(str, WEIGHTS))
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS, weights=weights) as made:
        rows = [PulledRows.of_silo(i, DIMENSION) for i in range(len(OWNERS))]
        for name, each in zip(made.names, rows, strict=True):
            each.write(made.folder / name)
        stage = Stage(made)
        try:
            strikes = tuple(_play(stage, moment, victim) for moment, victim in played)
            codes = stage.finish()
            yield Story(made, stage, strikes, codes, rows, initial, made.log())
        finally:
            stage.end()


def _play(stage: Stage, moment: str, victim: str) -> Strike:
    phase, hold = MOMENTS[moment]
    try:
        with hold(stage) as silo:
            strike = stage.strike(moment, victim, silo)
            assert phase in (None, strike.phase)
        return stage.recover(strike)
    except AssertionError as error:
        raise AssertionError(f"{victim} killed, {moment}: {error}\n{stage.appliance.errors[-3000:]}") from error
