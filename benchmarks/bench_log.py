"""What the log costs: `PYTHONPATH=tests python -m benchmarks.bench_log`; `make bench-log` is for a million entries.

Appending: entries a second, durably (fsync of every file and folder), in batches of 1, 16 and 256, by the clock.
Proofs: the writer's inclusion proof and its verification, in microseconds. Verifying: `audit verify` of a valid history
from `benchmarks.synthetic_log`, in a process of its own: entries a second of the processor and by the clock, and the
process's peak memory, in all and for each entry; then the same again, going on from what it kept. As the enclave does,
the history has a checkpoint for each event, or with `--sparse` two a round: signatures are most of the time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from audit.log import LogWriter
from audit.log_files import LogFiles
from audit.merkle import leaf_hash, verify_inclusion
from audit.report import AuditVerdict
from audit.resumption import Resumption
from audit.store import DirectoryStore, MemoryStore
from audit.verify import verify
from benchmarks.synthetic_log import Synthetic
from protocol.agreement import Agreement
from protocol.keys import SigningKey

ENTRY_BYTES: Final = 400
BATCHES: Final = {1: 60, 16: 40, 256: 12}
ORIGIN: Final = "simulated.strongroom.example/bench"


def append_rate(batch: int, batches: int, folder: Path) -> float:
    """Entries a second into a directory of `folder`."""
    writer = LogWriter.create(DirectoryStore(folder), ORIGIN, SigningKey(bytes(32)))
    entries = [number.to_bytes(8, "big") * (ENTRY_BYTES // 8) for number in range(batch)]
    start = time.perf_counter()
    for _ in range(batches):
        writer.append(entries)
    return batch * batches / (time.perf_counter() - start)


def proof_times(size: int, repetitions: int) -> tuple[float, float]:
    """Microseconds to make an inclusion proof in a log of `size` entries, and to verify one."""
    writer = LogWriter.create(MemoryStore(), ORIGIN, SigningKey(bytes(32)))
    entries = [number.to_bytes(8, "big") for number in range(size)]
    writer.append(entries)
    head = writer.head()

    def check(index: int) -> None:
        verify_inclusion(leaf=leaf_hash(entries[index]), index=index, proof=writer.inclusion(index), head=head)

    indices = [number * 7919 % size for number in range(repetitions)]
    make = statistics.median(_microseconds(writer.inclusion, index) for index in indices)
    return make, statistics.median(_microseconds(check, index) for index in indices) - make


def verified(root: Path, agreement: Path, resume: Path) -> dict[str, float]:
    """Verify a log in this process, which ought to be a new one; goes on from `resume` if it is there, and keeps it."""
    terms = Agreement.parse(agreement.read_bytes(), str(agreement))
    before = _peak()
    resumed = Resumption.parse(resume.read_bytes()) if resume.exists() else None
    clock, processor = time.perf_counter(), time.process_time()
    report = verify(LogFiles.find(root), terms, resumed=resumed, keep=lambda item: resume.write_bytes(item.encode()))
    clock, processor, peak = time.perf_counter() - clock, time.process_time() - processor, _peak()
    if report.verdict is not AuditVerdict.PASS:
        raise SystemExit(f"expected PASS, found {report.line}: {report.divergence or report.missing}")
    return {
        "entries": report.counts.entries,
        "checkpoints": report.counts.checkpoints,
        "clock_seconds": clock,
        "processor_seconds": processor,
        "peak_mb": peak,
        "before_mb": before,
    }


def main() -> None:
    """Print a line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=5_000, help="of the log to verify (default: %(default)s)")
    parser.add_argument("--sparse", action="store_true", help="two checkpoints a round, not one an event")
    parser.add_argument("--one", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(verified(*options.one)))
        return
    for batch, batches in BATCHES.items():
        with tempfile.TemporaryDirectory() as folder:
            rate = append_rate(batch, batches, Path(folder))
        print(f"{f'append, {ENTRY_BYTES} bytes each, in batches of {batch}':52} {rate:9.0f} entries/s")
    make, check = proof_times(100_000, 500)
    print(f"{'inclusion proof in 100000 entries':52} {make:9.1f} µs to make, {check:.1f} µs to verify")
    with tempfile.TemporaryDirectory() as folder:
        root, agreement, resume = Path(folder) / "store", Path(folder) / "federation.toml", Path(folder) / "seen"
        agreement.write_bytes(Synthetic(root, options.entries, sparse=options.sparse).agreement.source)
        for name in ("audit verify", "the same, resumed"):
            _print_verified(name, root, agreement, resume)


def _print_verified(name: str, root: Path, agreement: Path, resume: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.bench_log", "--one", str(root), str(agreement), str(resume)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    entries = found["entries"]
    what = f"{name}, {entries} entries, {found['checkpoints']} checkpoints"
    per_entry = (found["peak_mb"] - found["before_mb"]) * 2**20 / entries
    print(
        f"{what:52} {entries / found['processor_seconds']:9.0f} entries/s; by the clock "
        f"{entries / found['clock_seconds']:.0f}; peak {found['peak_mb']:.0f} MB, {per_entry:.0f} bytes an entry"
    )


def _microseconds(make: Callable[[int], object], index: int) -> float:
    start = time.perf_counter()
    make(index)
    return 1e6 * (time.perf_counter() - start)


def _peak() -> float:
    """This program's peak memory in MB (`getrusage` would tell of its parent's too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
