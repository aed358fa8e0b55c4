"""How long a verdict on SEV-SNP evidence takes, from its bytes, on one core: `python -m benchmarks.bench_appraisal`.

For each valid public vector: parse our encoding, verify the chain and the report's signature, appraise. Prints the
median and the spread (5th to 95th percentile) over N repetitions; the aim is under 5 ms. The first line is that of a
process that has just started, which loads the roots besides.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from attestation.appraisal import judge
from attestation.evidence import Evidence
from attestation.families import FAMILIES
from attestation.recognise import endorsements_in
from attestation.tee import Tee

VECTORS: Final = Path(__file__).parents[1] / "tests" / "vectors" / "data" / "snp"
AIM_MS: Final = 5.0


def verdicts() -> Iterator[tuple[str, Callable[[], object]]]:
    """Each valid vector's name, and what makes its verdict from bytes."""
    for case in json.loads((VECTORS / "cases.json").read_text()):
        if case["verdict"] == "valid":
            yield case["name"], _verdict(case)


def milliseconds(make: Callable[[], object], repetitions: int) -> list[float]:
    """The time of each repetition, sorted."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        make()
        times.append(1000 * (time.perf_counter() - start))
    return sorted(times)


def main() -> None:
    """Print a line a vector, and one over all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="repetitions of each (default: %(default)s)")
    repetitions = parser.parse_args().n
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cases = list(verdicts())
    (first,) = milliseconds(cases[0][1], 1)
    print(f"{'the first in a process':52} {first:6.2f} ms")
    everything = []
    for name, make in cases:
        times = milliseconds(make, repetitions)
        everything += times
        print(f"{name:52} {_spread(times)}")
    everything.sort()
    print(f"{f'all {len(cases)} vectors, {repetitions} times each':52} {_spread(everything)}, aim {AIM_MS} ms")


def _verdict(case: dict[str, str]) -> Callable[[], object]:
    report = (VECTORS / case["report"]).read_bytes()
    endorsements = endorsements_in((VECTORS / case["certificates"]).read_bytes(), case["certificates"])
    evidence = Evidence(tee=Tee.SEV_SNP, report=report, endorsements=endorsements)
    values, data = FAMILIES[Tee.SEV_SNP].reference(evidence), evidence.encode()
    now, zeros = datetime.fromisoformat(case["time"]), not int(case["report_data"], 16)
    report_data = None if zeros else bytes.fromhex(case["report_data"])
    return lambda: judge(Evidence.parse(data), [values], report_data, now)


def _spread(times: list[float]) -> str:
    low, high = times[len(times) // 20], times[-1 - len(times) // 20]
    return f"{statistics.median(times):6.2f} ms ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
