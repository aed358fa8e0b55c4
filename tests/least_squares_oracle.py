"""Least squares for silos in processes, and what SCAFFOLD, FedAvg and FedProx make of it: the papers' boxes in NumPy.

The oracle knows nothing of this project: float64, full gradients, and the cohorts that the log says were used.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from process_federation import ProcessFederation

from audit.entries import ControlReset, RoundPublished
from audit.store import DirectoryStore
from protocol.layout import Layout
from silo_client.bodies import read_control
from silo_client.state import SiloState

TASK = Path(__file__).parent / "e2e" / "least_squares.py"


@dataclass(frozen=True)
class Rows:
    """One silo's data: it minimises ½|A w − b|² / rows."""

    features: np.ndarray
    targets: np.ndarray

    @classmethod
    def random(cls, seed: int, dimension: int) -> "Rows":
        """Three to eight rows, and another optimum for each seed."""
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(int(rng.integers(3, 9)), dimension)).astype(np.float32) / np.float32(4)
        return cls(features, (rng.normal(size=len(features)) + 2 * seed).astype(np.float32))

    def write(self, folder: Path) -> None:
        """As `e2e/least_squares.py` reads it."""
        (folder / "data.json").write_text(json.dumps(self.data()))

    def data(self) -> dict[str, object]:
        """As JSON."""
        return {"features": self.features.tolist(), "targets": self.targets.tolist()}

    def gradient(self, w: np.ndarray) -> np.ndarray:
        rows = self.features.astype(np.float64)
        return rows.T @ (rows @ w - self.targets) / len(rows)


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The agreement's terms, as numbers."""

    rows: Sequence[Rows]
    weights: Sequence[float]
    steps: int
    eta: float
    server_eta: float
    strategy: str = "scaffold"
    mu: float = 0.0

    def run(self, x: np.ndarray, cohorts: list[list[int]], resets: Collection[int] = ()) -> "Result":
        """Algorithm 1 of Karimireddy et al. 2020, or the mean of local models, round by round.

        `resets`: rounds (from 1 on) before which c and all c_i were set back to zero.
        """
        c, c_i = np.zeros_like(x), [np.zeros_like(x) for _ in self.rows]
        shares, travelled, path = np.array(self.weights) / sum(self.weights), 0.0, [x]
        for number, cohort in enumerate(cohorts, 1):
            if number in resets:
                c, c_i = np.zeros_like(x), [np.zeros_like(x) for _ in self.rows]
            delta_x, delta_c = np.zeros_like(x), np.zeros_like(x)
            for i in cohort:
                y = x
                for _ in range(self.steps):
                    correction = c - c_i[i] if self.strategy == "scaffold" else self.mu * (y - x)
                    y = y - self.eta * (self.rows[i].gradient(y) + correction)
                delta_x += self.weights[i] * (y - x) / sum(self.weights[j] for j in cohort)
                if self.strategy == "scaffold":
                    plus = c_i[i] - c + (x - y) / (self.steps * self.eta)
                    delta_c += shares[i] * (plus - c_i[i])
                    c_i[i] = plus
            travelled += float(np.linalg.norm(self.server_eta * delta_x))
            x, c = x + self.server_eta * delta_x, c + delta_c
            path.append(x)
        return Result(model=x, controls=c_i, travelled=travelled, path=path)


@dataclass(frozen=True)
class Result:
    """The last model, every silo's control variate, the length of the model's path, and its points."""

    model: np.ndarray
    controls: list[np.ndarray]
    travelled: float
    path: list[np.ndarray]

    def check_model(self, found: np.ndarray) -> None:
        """Equal to 1e-5 of the distance travelled."""
        assert np.linalg.norm(found - self.model) <= 1e-5 * self.travelled

    def check_control(self, silo: int, found: np.ndarray) -> None:
        """Equal to 1e-5 of what it is, or of the distance travelled."""
        expected = self.controls[silo]
        assert np.linalg.norm(found - expected) <= 1e-5 * max(self.travelled, float(np.linalg.norm(expected)))


def check_path(made: ProcessFederation, name: str, expected: Result) -> int:
    """Hold every model that a silo saw against the oracle's path; returns how many those were."""
    lines = (made.folder / name / "seen.jsonl").read_text().splitlines()
    for line in lines:
        number, weight = json.loads(line)
        assert np.linalg.norm(np.array(weight) - expected.path[number - 1]) <= 1e-5 * expected.travelled, number
    return len(lines)


def resets(made: ProcessFederation) -> list[int]:
    """The rounds before which the log says that all control variates were reset."""
    published, found = 0, []
    for entry in made.log():
        published += isinstance(entry, RoundPublished)
        if isinstance(entry, ControlReset):
            found.append(published + 1)
    return found


def cohorts(made: ProcessFederation) -> list[list[int]]:
    """Which silos' updates each round used, as the log has it."""
    published = made.entries(RoundPublished)
    return [[made.names.index(member.silo) for member in entry.cohort] for entry in published]


def final_model(made: ProcessFederation, name: str) -> np.ndarray:
    """What a silo's script wrote down at the end."""
    return np.array(json.loads((made.folder / name / "final.json").read_text())["weight"][0])


def own_control(made: ProcessFederation, name: str) -> np.ndarray:
    """c_i in a silo's state folder."""
    store = DirectoryStore(made.folder / name / "state")
    state = SiloState.read_only(store, agreement=made.agreement.digest, silo=name)
    assert state.pending is None
    layout = Layout.parse((made.folder / "layout.json").read_bytes())
    return read_control(state, layout).double().numpy()
