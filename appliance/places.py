"""The folders of an appliance's store, whose they are, and the lock that keeps a second supervisor out.

    <store>/log, models     written by the enclave, read by the gateway
    <store>/state           the enclave's only
    <store>/spool           written by the gateway, read by the enclave
    <store>/run             the socket between them (in a short folder under /tmp where its path would be too long)

Called by the supervisor, before it starts anything. The disk is the operator's: modes keep the gateway out of what
isn't its own, and nobody else.
"""

import fcntl
import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from appliance.config import Users

SOCKET_PATH_LIMIT_BYTES = 107
_SHARED, _PRIVATE, _THROUGH = 0o750, 0o700, 0o710
_TEMPORARY = Path("/tmp")  # noqa: S108 (the folder below is ours alone, or refused)


class StoreUnusableError(Exception):
    """The store, or the folder for the socket, can't be used; one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where everything of one appliance lies."""

    store: Path

    @property
    def models(self) -> Path:
        return self.store / "models"

    @property
    def spool(self) -> Path:
        return self.store / "spool"

    @property
    def runtime(self) -> Path:
        """The socket's folder, the same for everybody who knows the store's path."""
        near = self.store / "run"
        if len(os.fsencode(near / "enclave.sock")) <= SOCKET_PATH_LIMIT_BYTES:
            return near
        name = sha256(os.fsencode(self.store)).hexdigest()[:16]
        return _TEMPORARY / f"strongroom-{os.geteuid()}-{name}"

    @property
    def socket(self) -> Path:
        return self.runtime / "enclave.sock"

    def prepare(self, users: Users | None) -> None:
        """Make the folders and give them to their users; None: all to this process's. Call while holding the lock.

        Raises `StoreUnusableError`.
        """
        own = Users(enclave=os.geteuid(), gateway=os.geteuid(), group=os.getegid())
        enclave, gateway, group = (users or own).enclave, (users or own).gateway, (users or own).group
        folders = (
            (self.store, enclave, _SHARED),
            (self.store / "log", enclave, _SHARED),
            (self.models, enclave, _SHARED),
            (self.store / "state", enclave, _PRIVATE),
            (self.spool, gateway, _SHARED),
            (self.runtime, enclave, _THROUGH),
        )
        try:
            for folder, owner, mode in folders:
                _own(folder, owner, group, mode, former={os.geteuid(), enclave, gateway})
        except OSError as error:
            raise StoreUnusableError(f"{error.filename or self.store}: {error.strerror}") from error

    def lock(self) -> int:
        """Make the store if need be, and hold it for this process while the descriptor returned is open.

        Raises `StoreUnusableError`, also if another process holds it.
        """
        path = self.store / "lock"
        try:
            self.store.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreUnusableError(f"{self.store}: another appliance is running on this store") from error
        except OSError as error:
            raise StoreUnusableError(f"{path}: {error.strerror}") from error
        return descriptor


def _own(folder: Path, owner: int, group: int, mode: int, former: set[int]) -> None:
    """Make a folder, with all that is in it, this user's. A folder of anybody but its `former` owners is refused."""
    folder.mkdir(mode=_PRIVATE, exist_ok=True)
    status = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        raise StoreUnusableError(f"{folder}: expected a folder, found something else")
    if status.st_uid not in former:
        raise StoreUnusableError(f"{folder}: expected it to be user {owner}'s, found it to be user {status.st_uid}'s")
    if (status.st_uid, status.st_gid) != (owner, group):
        _give(folder, owner, group)
    folder.chmod(mode)


def _give(folder: Path, owner: int, group: int) -> None:
    os.chown(folder, owner, group, follow_symlinks=False)
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            os.chown(name, owner, group, dir_fd=descriptor, follow_symlinks=False)
