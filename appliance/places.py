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
from audit.store import make_durable_folder

SOCKET_PATH_LIMIT_BYTES = 107
_SHARED, _PRIVATE, _THROUGH = 0o750, 0o700, 0o710
_TEMPORARY = Path("/tmp")  # noqa: S108 (the folder below is ours alone, or refused)


class StoreUnusableError(Exception):
    """The store, or the folder for the socket, can't be used; one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where everything of one appliance lies."""

    store: Path

    @classmethod
    def of(cls, store: Path) -> "Places":
        """The places of a store that its owner may have put behind a link; below it, links are refused."""
        return cls(store=store.resolve())

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

    def prepare(self, users: Users, *, separate: bool) -> None:
        """Make the folders and give them to `users`, or all to this process's user unless `separate`.

        A store may change between the two from one start to the next. Call while holding the lock. Raises
        `StoreUnusableError`.
        """
        own = Users(enclave=os.geteuid(), gateway=os.geteuid(), group=os.getegid())
        now = users if separate else own
        former = {own.enclave, users.enclave, users.gateway}
        folders = (
            (self.store / "log", now.enclave, _SHARED),
            (self.models, now.enclave, _SHARED),
            (self.store / "state", now.enclave, _PRIVATE),
            (self.spool, now.gateway, _SHARED),
            (self.runtime, now.enclave, _THROUGH),
        )
        try:
            _check(self.store, former)
            os.chown(self.store, now.enclave, now.group)
            self.store.chmod(_SHARED)
            for folder, owner, mode in folders:
                folder.mkdir(mode=_PRIVATE, exist_ok=True)
                status = _check(folder, former)
                if (status.st_uid, status.st_gid) != (owner, now.group):
                    _give(folder, owner, now.group)
                folder.chmod(mode)
        except OSError as error:
            raise StoreUnusableError(f"{error.filename or self.store}: {error.strerror}") from error

    def lock(self) -> int:
        """Make the store if need be, and hold it for this process while the descriptor returned is open.

        Raises `StoreUnusableError`, also if another process holds it.
        """
        path = self.store / "lock"
        try:
            make_durable_folder(self.store, _PRIVATE)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreUnusableError(f"{self.store}: another appliance is running on this store") from error
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreUnusableError(f"{self.store}: expected a folder, found something else") from error
        except OSError as error:
            raise StoreUnusableError(f"{path}: {error.strerror}") from error
        return descriptor


def _check(folder: Path, former: set[int]) -> os.stat_result:
    """The status of a folder that may be taken over, being one of these users'."""
    status = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        raise StoreUnusableError(f"{folder}: expected a folder, found something else")
    if status.st_uid not in former:
        raise StoreUnusableError(
            f"{folder}: expected it to be the appliance's (users {', '.join(map(str, sorted(former)))}), "
            f"found it to be user {status.st_uid}'s"
        )
    return status


def _give(folder: Path, owner: int, group: int) -> None:
    os.chown(folder, owner, group, follow_symlinks=False)
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            os.chown(name, owner, group, dir_fd=descriptor, follow_symlinks=False)
