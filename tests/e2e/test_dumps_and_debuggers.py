"""Core dumps and debuggers against a process that does to itself what the enclave does, and against one that does not.

The first shows that the attack works on this machine; without it the second shows nothing. What the enclave's own
process leaves when it crashes in a merge, `test_canary.py` shows.
"""

import errno
import json
import os
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from process_search import may_read_memory, status

NOBODY = 65_534
# Takes up another user after it has loaded everything, as that user may not reach this interpreter. The kernel then
# makes it undumpable, which is undone: here that is what is looked at.
VICTIM = """
import codecs, ctypes, os, resource, sys
from appliance.enclave.hardening import _call, harden
user = int(sys.argv[1])
codecs.lookup("ascii")
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
    _call("prctl", 4, 1, 0, 0, 0)
{steps}
secret = ctypes.create_string_buffer(bytes.fromhex(sys.stdin.readline()), 32)
print(ctypes.addressof(secret), flush=True)
sys.stdin.readline()
"""
ATTACKER = """
import ctypes, json, os, sys
user, pid, address = map(int, sys.argv[1:])
libc = ctypes.CDLL(None, use_errno=True)
os.setgroups([]); os.setgid(user); os.setuid(user)

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def read(path, at=0):
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), 32, at).hex()

def read_at_once():
    own = ctypes.create_string_buffer(32)
    here, there = Vector(ctypes.addressof(own), 32), Vector(address, 32)
    checked(libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
    return own.raw.hex()

def trace():
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    checked(libc.ptrace(0x4206, pid, None, None))  # PTRACE_SEIZE
    return "attached"

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")

def attempt(how):
    try:
        return how()
    except OSError as error:
        return error.errno

print(json.dumps({
    "memory": attempt(lambda: read(f"/proc/{pid}/mem", address)),
    "process_vm_readv": attempt(read_at_once),
    "environment": attempt(lambda: read(f"/proc/{pid}/environ") is not None),
    "map of its memory": attempt(lambda: read(f"/proc/{pid}/maps") is not None),
    "ptrace": attempt(trace),
}))
"""


@dataclass
class Victim:
    """A process that holds a secret, and where."""

    pid: int
    secret: bytes
    address: int
    process: "subprocess.Popen[str]"

    def die_of(self, number: signal.Signals) -> int:
        os.kill(self.pid, number)
        return self.process.wait(30)


@contextmanager
def victim(folder: Path, steps: str, *, user: int = 0) -> Iterator[Victim]:
    """A process under `user` (0: this one) that takes these steps, and whose parent allows core dumps of any size."""
    secret, unlimited = secrets.token_bytes(32), resource.RLIM_INFINITY
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", VICTIM.format(steps=steps), str(user)],
        env={},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (unlimited, unlimited)),  # noqa: PLW1509
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    try:
        print(secret.hex(), file=process.stdin, flush=True)
        yield Victim(process.pid, secret, int(process.stdout.readline()), process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def dumps_are_possible() -> None:
    """As `kernel.core_pattern` is on this machine; nothing here changes that."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern:
        pytest.skip(f"core dumps go elsewhere on this machine: kernel.core_pattern is {pattern!r}")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("core dumps are limited on this machine (RLIMIT_CORE)")


def core_dumps(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


def test_a_crash_leaves_a_core_dump_with_the_secret_in_it(tmp_path: Path, dumps_are_possible: None) -> None:
    with victim(tmp_path, "pass") as found:
        assert found.die_of(signal.SIGSEGV) == -signal.SIGSEGV
    [core] = core_dumps(tmp_path)
    assert found.secret in core


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGQUIT])
def test_of_a_process_that_is_hardened_it_leaves_none(
    tmp_path: Path, number: signal.Signals, dumps_are_possible: None
) -> None:
    with victim(tmp_path, "harden()") as found:
        assert found.die_of(number) == -number
    assert core_dumps(tmp_path) == []


@pytest.mark.parametrize(
    "step",
    ["resource.setrlimit(resource.RLIMIT_CORE, (0, 0))", "_call('prctl', 4, 0, 0, 0, 0)"],
    ids=["limit", "prctl"],
)
def test_each_of_the_two_steps_is_enough(tmp_path: Path, step: str, dumps_are_possible: None) -> None:
    """The limit can be raised again by root, and does not hold where dumps go to a program; the other one does."""
    with victim(tmp_path, step) as found:
        found.die_of(signal.SIGSEGV)
    assert core_dumps(tmp_path) == []


def attack(found: Victim, user: int) -> dict[str, object]:
    """What a process of this user, without privileges, gets to see of it: the bytes, or an errno."""
    arguments = [sys.executable, "-I", "-c", ATTACKER, str(user), str(found.pid), str(found.address)]
    done = subprocess.run(arguments, env={}, cwd="/", capture_output=True, text=True, check=True)
    seen: dict[str, object] = json.loads(done.stdout)
    return seen


@pytest.fixture(scope="module")
def two_users() -> None:
    if not may_read_memory():
        pytest.skip("needs root, to start processes of another user")


def test_a_debugger_of_the_same_user_reads_everything(tmp_path: Path, two_users: None) -> None:
    with victim(tmp_path, "pass", user=NOBODY) as found:
        seen = attack(found, NOBODY)
    if seen["ptrace"] == errno.EPERM:
        pytest.skip("this kernel lets nobody debug what is not his child (kernel.yama.ptrace_scope)")
    assert seen["memory"] == seen["process_vm_readv"] == found.secret.hex()
    assert seen == seen | {"environment": True, "map of its memory": True, "ptrace": "attached"}


def test_of_a_process_that_is_hardened_it_reads_nothing(tmp_path: Path, two_users: None) -> None:
    """A gateway that was taken over, where the appliance does not run as root, is such a debugger."""
    with victim(tmp_path, "harden()", user=NOBODY) as found:
        assert status(found.pid)["Uid"].split()[0] == str(NOBODY)
        seen = attack(found, NOBODY)
    assert set(seen.values()) <= {errno.EACCES, errno.EPERM}
    assert len(seen) == 5


def test_nor_does_another_user_of_one_that_is_not(tmp_path: Path, two_users: None) -> None:
    """The gateway, where the appliance runs as root and gives each process a user of its own."""
    with victim(tmp_path, "pass", user=NOBODY) as found:
        seen = attack(found, NOBODY - 1)
    assert set(seen.values()) <= {errno.EACCES, errno.EPERM}
