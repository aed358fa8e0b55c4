"""Two users for two processes, where that is possible; whether it is, is found out by trying.

Called by the supervisor. A site's interpreter may lie in a home folder that no other user can enter; then both
processes run under one user, and the start-up says so. The TEE's wall around both is not touched by this.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.config import Users

_TIMEOUT_SECONDS = 30
_PROBE = """
import importlib.util, json, os, sys
wanted = json.loads(sys.argv[1])
for package in wanted["packages"]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin or not os.access(spec.origin, os.R_OK):
        sys.exit("can't import " + package)
for path in wanted["readable"]:
    if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
        sys.exit("can't read " + path)
for path in wanted["writable"]:
    if not os.access(path, os.W_OK | os.X_OK):
        sys.exit("can't write " + path)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one of the processes must reach."""

    packages: Sequence[str]
    readable: Sequence[Path]
    writable: Sequence[Path]


def is_root() -> bool:
    """Whether this process may start others under other users."""
    return os.geteuid() == 0


def obstacle(user: int, group: int, needs: Needs) -> str | None:
    """Run this interpreter as that user and have it look: why the process couldn't run so, or None if it could."""
    wanted = {
        "packages": list(needs.packages),
        "readable": [str(path) for path in needs.readable],
        "writable": [str(path) for path in needs.writable],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _PROBE, json.dumps(wanted)],
            env={},
            cwd="/",
            user=user,
            group=group,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        return f"user {user} can't run {sys.executable}: {reason}"
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"user {user} {said[-1] if said else 'can not run the interpreter'}"
    return None


def unlimit_locked_memory() -> None:
    """Let an enclave that is not root keep all its memory out of swap, where this process may say so."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def separate(users: Users, enclave: Needs, gateway: Needs) -> str | None:
    """Why the two processes can't have these users, or None if they can."""
    if not is_root():
        return "the appliance doesn't run as root"
    return obstacle(users.enclave, users.group, enclave) or obstacle(users.gateway, users.group, gateway)
