"""Flip every signed bit of every accepted evidence, for a given time; goes on where the last run stopped.

    python tests/fuzz/every_bit.py --seconds 600 --corpus build/fuzz

Ends with 1 if one of them is accepted, or raises what no verifier may raise.
"""

import argparse
import json
import sys
import time
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attestation_cases.bits import all_good_cases, bits_of, survives
from attestation_cases.good_case import GoodCase


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="in all, over all evidence")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    arguments = parser.parse_args()
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    progress = arguments.corpus / "every-bit.json"
    done: dict[str, int] = json.loads(progress.read_text()) if progress.exists() else {}
    cases, survivors = list(all_good_cases()), 0
    share = arguments.seconds / len(cases)
    for case in cases:
        key, bits = f"{case.name} {sha256(case.evidence.encode()).hexdigest()[:16]}", bits_of(case)
        first = done.get(key, 0) % bits
        last, accepted = _flip(case, first, bits, time.monotonic() + share)
        done[key] = last
        survivors += len(accepted)
        print(f"{case.evidence.tee:20} {case.name:48} {last:>7} of {bits:>7} bits {accepted or ''}", flush=True)
        progress.write_text(json.dumps(done))
    return 1 if survivors else 0


def _flip(case: GoodCase, first: int, bits: int, end: float) -> tuple[int, list[int]]:
    """From the first bit on until the time is over: how far it came, and which bits changed nothing."""
    accepted = []
    for bit in range(first, bits):
        if survives(case, bit):
            accepted.append(bit)
        if time.monotonic() > end:
            return bit + 1, accepted
    return bits, accepted


if __name__ == "__main__":
    sys.exit(main())
