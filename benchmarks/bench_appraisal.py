"""How long a verdict on SEV-SNP evidence takes, from its bytes, on one core: `python -m benchmarks.bench_appraisal`.

For each valid public vector: parse our encoding, verify the chain and the report's signature, appraise, all in one
thread. Prints the median and the spread (5th to 95th percentile) of the processor's time over N repetitions, and the
median of the clock's, which is longer where others run beside it; the aim is under 5 ms. The first line is that of a
process that has just started, which loads the roots besides.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

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


class Times(NamedTuple):
    """Milliseconds of a repetition: of the processor, and by the clock."""

    processor: float
    clock: float


def measure(make: Callable[[], object], repetitions: int) -> list[Times]:
    """The times of each repetition, in order."""
    times = []
    for _ in range(repetitions):
        clock, processor = time.perf_counter(), time.process_time()
        make()
        times.append(Times(1000 * (time.process_time() - processor), 1000 * (time.perf_counter() - clock)))
    return times


def main() -> None:
    """Print a line a vector, and one over all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="repetitions of each (default: %(default)s)")
    repetitions = parser.parse_args().n
    cases = list(verdicts())
    (first,) = measure(cases[0][1], 1)
    print(f"{'the first in a process':52} {first.processor:6.2f} ms; by the clock {first.clock:.2f} ms")
    everything: list[Times] = []
    for name, make in cases:
        times = measure(make, repetitions)
        everything += times
        print(f"{name:52} {_spread(times)}")
    print(f"{f'all {len(cases)} vectors, {repetitions} times each':52} {_spread(everything)}, aim {AIM_MS} ms")


def _verdict(case: dict[str, str]) -> Callable[[], object]:
    report = (VECTORS / case["report"]).read_bytes()
    endorsements = endorsements_in((VECTORS / case["certificates"]).read_bytes(), case["certificates"])
    evidence = Evidence(tee=Tee.SEV_SNP, report=report, endorsements=endorsements)
    values, data = FAMILIES[Tee.SEV_SNP].reference(evidence), evidence.encode()
    now, zeros = datetime.fromisoformat(case["time"]), not int(case["report_data"], 16)
    report_data = None if zeros else bytes.fromhex(case["report_data"])
    return lambda: judge(Evidence.parse(data), [values], report_data, now)


def _spread(times: list[Times]) -> str:
    processor = sorted(item.processor for item in times)
    low, high = processor[len(times) // 20], processor[-1 - len(times) // 20]
    clock = statistics.median(item.clock for item in times)
    return f"{statistics.median(processor):6.2f} ms ({low:.2f} to {high:.2f}); by the clock {clock:.2f} ms"


if __name__ == "__main__":
    main()
