"""What the enclave's process does to itself before it makes a key. Called first thing by `process.py`, once.

It trusts the kernel, and takes from the operator's reach what a process can take: core dumps, swap, a debugger without
privileges, an environment that libraries obey. Root on a host without a TEE still reads the memory; only the TEE
prevents that. Every step says whether it was done, or why not; none is fatal, because a site's kernel may forbid some.
"""

import ctypes
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14
_UMASK = 0o027


class Step(StrEnum):
    """What is done, in this order."""

    EMPTY_ENVIRONMENT = "empty-environment"
    UMASK = "umask"
    NO_CORE_DUMPS = "no-core-dumps"
    NOT_DUMPABLE = "not-dumpable"
    NO_NEW_PRIVILEGES = "no-new-privileges"
    NO_SWAP = "no-swap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One step and what became of it; `why_not` is empty where it was done."""

    step: Step
    why_not: str = ""

    @property
    def done(self) -> bool:
        return not self.why_not

    def __str__(self) -> str:
        return f"{self.step}: {'done' if self.done else 'not done, ' + self.why_not}"


class NotAllowedError(Exception):
    """The kernel or the site forbids a step; the message says why."""


def harden() -> tuple[Outcome, ...]:
    """Do every step and report each. Call before the first secret exists and before torch or gRPC are imported."""
    steps: dict[Step, Callable[[], object]] = {
        Step.EMPTY_ENVIRONMENT: os.environ.clear,
        Step.UMASK: partial(os.umask, _UMASK),
        Step.NO_CORE_DUMPS: partial(resource.setrlimit, resource.RLIMIT_CORE, (0, 0)),
        Step.NOT_DUMPABLE: partial(_call, "prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0),
        Step.NO_NEW_PRIVILEGES: partial(_call, "prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        Step.NO_SWAP: _lock_memory,
    }
    return tuple(_attempt(step, action) for step, action in steps.items())


def _attempt(step: Step, action: Callable[[], object]) -> Outcome:
    try:
        action()
    except (OSError, ValueError, NotAllowedError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Outcome(step=step, why_not=reason or type(error).__name__)
    return Outcome(step=step)


def _lock_memory() -> None:
    """Keep every page out of swap, as it is first touched (MCL_ONFAULT: without it torch's footprint triples)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # Under a finite limit MCL_FUTURE may succeed now and make later allocations fail.
    if limit != resource.RLIM_INFINITY and not _has_capability(_CAP_IPC_LOCK):
        raise NotAllowedError(f"the limit on locked memory is {limit} bytes (RLIMIT_MEMLOCK)")
    _call("mlockall", _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)


def _has_capability(number: int) -> bool:
    with open("/proc/self/status", encoding="ascii") as status:
        effective = next((line.split()[1] for line in status if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> number & 1)


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    first, *others = arguments
    if getattr(library, name)(ctypes.c_int(first), *map(ctypes.c_ulong, others)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
