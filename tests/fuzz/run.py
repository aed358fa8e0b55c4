"""Fuzz every parser for a given time in all, one process a target, and keep what was found to be new.

    python tests/fuzz/run.py --seconds 600 --corpus build/fuzz [TARGET …]

Ends with 1 if a target raised what it may not, ran for 10 seconds on one input, or took more than 2 GiB; the input then
lies beside the corpus, and `python tests/fuzz/one.py TARGET FILE` repeats it.
"""

import argparse
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from parser_targets import targets  # noqa: E402

_LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=20000", "-print_final_stats=1")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="in all, over all targets")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    parser.add_argument("targets", nargs="*")
    arguments = parser.parse_args()
    found = targets()
    names = arguments.targets or list(found)
    share = max(1, arguments.seconds // len(names))
    failed = []
    for name in names:
        folder = arguments.corpus / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in found[name].seeds:
            (folder / sha256(seed).hexdigest()[:32]).write_bytes(seed)
        budget = (f"-max_total_time={share}", f"-artifact_prefix={arguments.corpus}/{name}-")
        done = subprocess.run(
            [sys.executable, str(TESTS / "fuzz" / "one.py"), name, str(folder), *_LIMITS, *budget],
            capture_output=True,
            text=True,
        )
        runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        state = "ok" if done.returncode == 0 else "FAILED"
        count = len(list(folder.iterdir()))
        print(f"{name:28} {state:7} {runs[0] if runs else '?':>9} inputs, {count} kept", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print("\n".join(done.stderr.splitlines()[-40:]), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
