"""What the enclave does to its own process, looked at from outside it."""

import json
import os
import resource
import subprocess
import sys

import pytest

from appliance.enclave import hardening
from appliance.enclave.hardening import Outcome, Step

LOOK = """
import json, os, resource, sys
from appliance.enclave.hardening import harden
outcomes = {outcome.step: outcome.why_not for outcome in harden()}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import ctypes
print(json.dumps({
    "outcomes": outcomes,
    "environment": dict(os.environ),
    "umask": os.umask(0),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "locked_kib": int(status["VmLck"].split()[0]),
}))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOOK],
        env={"LD_PRELOAD_NOT": "1", "SSLKEYLOGFILE": "/tmp/keys", "GRPC_TRACE": "all", "HOME": "/root"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_every_step_is_reported(found: dict[str, object]) -> None:
    assert list(found["outcomes"]) == [str(step) for step in Step]


def test_nothing_of_the_environment_is_left(found: dict[str, object]) -> None:
    assert found["environment"] == {}


def test_no_core_dumps_and_no_debugger_without_privileges(found: dict[str, object]) -> None:
    assert found["core"] == [0, 0]
    assert found["dumpable"] == 0
    assert found["no_new_privileges"] == "1"
    assert found["umask"] == 0o027


def test_memory_is_locked_or_the_reason_is_named(found: dict[str, object]) -> None:
    why_not = found["outcomes"][Step.NO_SWAP]
    if why_not:
        assert "RLIMIT_MEMLOCK" in why_not or "permitted" in why_not
    else:
        assert found["locked_kib"] > 0


def test_a_finite_limit_is_not_risked(monkeypatch: pytest.MonkeyPatch) -> None:
    """MCL_FUTURE under a limit would make a later allocation fail, in the middle of a merge."""
    called: list[str] = []
    monkeypatch.setattr(hardening, "_call", lambda name, *_: called.append(name))
    monkeypatch.setattr(hardening, "_has_capability", lambda _: False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8388608, 8388608))
    outcome = hardening._attempt(Step.NO_SWAP, hardening._lock_memory)
    assert not outcome.done
    assert str(outcome) == "no-swap: not done, the limit on locked memory is 8388608 bytes (RLIMIT_MEMLOCK)"
    assert called == []


def test_what_the_kernel_forbids_is_reported_and_not_fatal() -> None:
    def forbidden() -> None:
        raise PermissionError(1, "Operation not permitted")

    outcome = hardening._attempt(Step.NOT_DUMPABLE, forbidden)
    assert outcome == Outcome(step=Step.NOT_DUMPABLE, why_not="Operation not permitted")
    assert not outcome.done


def test_a_call_that_the_kernel_refuses_is_an_error_not_a_success() -> None:
    with pytest.raises(OSError, match=os.strerror(22)):
        hardening._call("prctl", 38, 7, 0, 0, 0)
