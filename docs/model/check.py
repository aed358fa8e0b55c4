"""Run the models through spin: what holds must hold in every state, and what is wrong on purpose must be found.

    python docs/model/check.py [NAME …]

Needs `spin` and a C compiler. Each check is an exhaustive search; the table says how many states it saw. Ends with 1 if
a check came out otherwise than expected or did not finish, with 2 if a tool is missing.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_DEPTH = 1_000_000
_MEMORY_MIB = 4000
_PATIENCE_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One search. `holds`: whether the model's assertions are expected to hold everywhere."""

    name: str
    model: str
    defines: tuple[str, ...]
    holds: bool
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came to: `states` stored, whether it was `complete`, the steps to a failed assertion if one did."""

    states: int
    complete: bool
    counterexample: int | None
    seconds: float

    def is_as_expected(self, check: Check) -> bool:
        """A search that was cut short shows nothing, unless it has found what it was to find."""
        return self.complete if check.holds else self.counterexample is not None


def _rounds(name: str, holds: bool, what: str, *defines: str) -> Check:
    return Check(name=f"rounds-{name}", model="rounds.pml", defines=defines, holds=holds, what=what)


def _witness(name: str, holds: bool, what: str, *defines: str) -> Check:
    return Check(name=f"witness-{name}", model="witness.pml", defines=defines, holds=holds, what=what)


CHECKS = (
    _rounds("w3-q3", True, "three witnesses, one faulty, a quorum of three", "W=3", "Q=3"),
    _rounds("w4-q3", True, "four witnesses, one faulty, a quorum of three", "W=4", "Q=3"),
    _rounds("w3-q2", False, "2 Q - W = F: two quorums that share nobody honest", "W=3", "Q=2"),
    _rounds("w4-q2", False, "2 Q - W < F: two quorums that share nobody", "W=4", "Q=2"),
    _rounds("w4-q3-f2", False, "2 Q - W = F, of two faulty ones", "W=4", "Q=3", "F=2"),
    _rounds("no-head", False, "witnesses that keep no head", "NO_HEAD"),
    _rounds("no-quorum", False, "a release after one cosignature", "NO_QUORUM"),
    _rounds("same-boot", False, "a boot id, and its round keys, that outlive a restart", "SAME_BOOT"),
    _witness("as-it-is", True, "the head is durable before the cosignature leaves"),
    _witness("sign-first", False, "the cosignature leaves before the head is durable", "SIGN_FIRST"),
    _witness("no-lock", False, "two requests at once against one head", "NO_LOCK"),
    _witness("no-sync", False, "a head that was written and not synced", "NO_SYNC"),
    _witness("in-memory", False, "a head in memory", "IN_MEMORY"),
    _witness("skip-same", False, "a head read from the kernel's cache, and taken to be durable", "SKIP_SAME"),
    _witness("settle", True, "the same, made durable at the start", "SKIP_SAME", "SETTLE"),
)


def search(check: Check) -> Found:
    """Make the verifier and run it; raises `CalledProcessError` for a model that does not compile."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        defines = [f"-D{define}" for define in check.defines]
        _run(folder, "spin", *defines, "-a", str(HERE / check.model))
        _run(
            folder,
            "cc",
            "-O2" if check.holds else "-O0",
            "-w",
            "-DSAFETY",
            "-DCOLLAPSE",
            f"-DMEMLIM={_MEMORY_MIB}",
            "-o",
            "pan",
            "pan.c",
        )
        said = _run(folder, "./pan", f"-m{_DEPTH}", "-E")
    states = re.search(r"^\s*(\d+) states, stored", said, re.MULTILINE)
    errors = re.search(r"errors: (\d+)", said)
    violated = re.search(r"assertion violated .+ \(at depth (\d+)\)", said)
    cut = "Search not completed" in said or "max search depth too small" in said
    return Found(
        states=int(states[1]) if states else 0,
        complete=errors is not None and errors[1] == "0" and not cut,
        counterexample=int(violated[1]) if violated else None,
        seconds=time.monotonic() - began,
    )


def _run(folder: str, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=_PATIENCE_SECONDS)
    return done.stdout


def _outcome(found: Found) -> str:
    if found.counterexample is not None:
        return f"fails after {found.counterexample} steps"
    return "holds everywhere" if found.complete else "not finished"


def main(names: Sequence[str]) -> int:
    """Run the checks with these names, or all; returns the exit status."""
    missing = [tool for tool in ("spin", "cc") if shutil.which(tool) is None]
    if missing:
        print(f"check-model: expected spin and a C compiler, found no {' and no '.join(missing)}; on Debian:")
        print("    apt-get install spin gcc libc6-dev")
        return 2
    unknown = set(names) - {check.name for check in CHECKS}
    if unknown:
        print(f"check-model: expected names among {', '.join(check.name for check in CHECKS)}, found {unknown}")
        return 2
    wrong = 0
    for check in CHECKS:
        if names and check.name not in names:
            continue
        found = search(check)
        fine = found.is_as_expected(check)
        wrong += not fine
        print(
            f"{'ok   ' if fine else 'WRONG'} {check.name:18} {found.states:>9,} states {found.seconds:>6.1f} s  "
            f"{_outcome(found):24}  {check.what}",
            flush=True,
        )
    print(f"check-model: {'all as expected' if not wrong else f'{wrong} otherwise than expected'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
