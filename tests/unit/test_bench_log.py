"""The benchmark of the log measures what it says: its history is valid, and what it verifies passes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.bench_log import append_rate, proof_times, verified
from benchmarks.synthetic_log import Synthetic


@pytest.mark.parametrize("sparse", [True, False])
def test_its_history_is_valid_and_can_be_resumed(sparse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.synthetic_log.ENTRIES_A_BOOT", 150)
    made = Synthetic(tmp_path / "store", 300, sparse=sparse)
    assert made.checkpoints < made.size / (3 if sparse else 1)
    (tmp_path / "federation.toml").write_bytes(made.agreement.source)
    for _ in range(2):
        found = verified(tmp_path / "store", tmp_path / "federation.toml", tmp_path / "seen")
        assert (found["entries"], found["checkpoints"]) == (made.size, made.checkpoints)
        assert found["peak_mb"] >= found["before_mb"] > 0


def test_every_measurement_is_taken(tmp_path: Path) -> None:
    assert append_rate(3, 2, tmp_path) > 0
    assert min(proof_times(100, 5)) >= 0
