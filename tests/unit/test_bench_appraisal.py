"""The benchmark of verdicts runs: every valid vector gives one."""

import runpy
from pathlib import Path

from attestation import Verdict

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bench_appraisal.py"))


def test_every_valid_vector_is_judged() -> None:
    cases = dict(BENCHMARK["verdicts"]())
    assert len(cases) >= 24
    assert all(isinstance(make(), Verdict) for make in cases.values())


def test_every_repetition_is_timed() -> None:
    times = BENCHMARK["measure"](lambda: sum(range(10_000)), 9)
    assert len(times) == 9
    assert all(item.processor >= 0 and item.clock > 0 for item in times)
