"""The spool: where a silo's sealed bytes lie until the enclave has judged them.

    <spool>/<silo>/<upload id>.part    as far as it has come; kept when a connection is cut, and when the gateway dies
    <spool>/<silo>/<upload id>.blob    complete; the enclave opens it by this name
    <spool>/boot                       the boot of the enclave that these bytes are sealed to

All of it is sealed: nobody here can read it, and nobody trusts it. A silo has one upload in the making and one complete
one, so that it can ask for the verdict again; anything older is deleted. The enclave holds open what it still needs,
and a file lives on until then. Nothing is flushed to the disk: the key that opens these bytes is in the enclave's
memory only, and is gone after whatever would lose them.
"""

import errno
import os
import re
import shutil
from pathlib import Path

from protocol.errors import RefusalCode, RefusedError, refuse

_UPLOAD_ID_BYTES = 16
_FILE_MODE = 0o640
_FOLDER_MODE = 0o750
_SPARE_BYTES = 2**24
_SILO = re.compile(r"[a-z0-9-]{1,63}")


class Spool:
    """The spool's folder. `largest`: no blob of this federation has more bytes; `smallest`: nor fewer."""

    def __init__(self, folder: Path, *, smallest: int, largest: int) -> None:
        self._folder = folder
        self._smallest = smallest
        self._largest = largest

    def serve_boot(self, boot_id: bytes) -> None:
        """Forget everything that was sealed to another boot of the enclave."""
        marker = self._folder / "boot"
        if marker.is_file() and marker.read_text("ascii") == boot_id.hex():
            return
        marker.unlink(missing_ok=True)
        for path in self._folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        marker.write_text(boot_id.hex(), "ascii")

    def offset(self, silo: str, upload_id: bytes) -> int:
        """How many bytes of an upload are here; raises `RefusedError` for an id that isn't one."""
        part, blob = self._paths(silo, upload_id)
        return _size(blob) or _size(part)

    def resume(self, silo: str, upload_id: bytes, *, offset: int, size: int) -> "Upload":
        """Go on with an upload of `size` bytes where it stopped, or begin it at 0; raises `RefusedError`."""
        if not self._smallest <= size <= self._largest:
            raise refuse(
                RefusalCode.WRONG_SIZE,
                expected=f"an upload of {self._smallest} to {self._largest} bytes, as the layout has it",
                found=f"one of {size}",
                remedy="seal an update of this federation's layout",
            )
        held = self.offset(silo, upload_id)
        part, blob = self._paths(silo, upload_id)
        complete = blob.exists()
        if offset != held or offset > size or (complete and offset != size):
            raise refuse(
                RefusalCode.WRONG_SIZE,
                expected=f"an upload that goes on at byte {held}",
                found=f"one that goes on at byte {offset} of {size}",
                remedy="ask for the upload's status and go on there",
            )
        if complete:
            return Upload(blob, blob, descriptor=None, offset=offset, size=size)
        self._make_room(part, size - offset)
        return Upload(part, blob, descriptor=_open(part), offset=offset, size=size)

    def forget_older(self, silo: str, upload_id: bytes) -> None:
        """Delete all uploads of a silo but this one: called once the enclave has judged it."""
        _, blob = self._paths(silo, upload_id)
        for path in blob.parent.glob("*"):
            if path != blob:
                path.unlink(missing_ok=True)

    def forget(self, silo: str, upload_id: bytes) -> None:
        """Delete an upload; what is sent of it next begins anew."""
        for path in self._paths(silo, upload_id):
            path.unlink(missing_ok=True)

    def _make_room(self, part: Path, needed: int) -> None:
        part.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        for other in part.parent.glob("*.part"):
            if other != part:
                other.unlink(missing_ok=True)
        status = os.statvfs(part.parent)
        if status.f_bavail * status.f_frsize < needed + _SPARE_BYTES:
            raise disk_full()

    def _paths(self, silo: str, upload_id: bytes) -> tuple[Path, Path]:
        if not _SILO.fullmatch(silo) or len(upload_id) != _UPLOAD_ID_BYTES:
            raise refuse(
                RefusalCode.MALFORMED,
                expected=f"an upload id of {_UPLOAD_ID_BYTES} bytes",
                found=f"{len(upload_id)} bytes",
                remedy="update the silo's software",
            )
        stem = self._folder / silo / upload_id.hex()
        return stem.with_suffix(".part"), stem.with_suffix(".blob")


class Upload:
    """An upload that goes on, or is complete (`descriptor` None). A context manager; what was written stays."""

    def __init__(self, part: Path, blob: Path, *, descriptor: int | None, offset: int, size: int) -> None:
        self._part = part
        self._blob = blob
        self._descriptor = descriptor
        self._held = offset
        self._size = size

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def write(self, data: bytes) -> None:
        """Append; raises `RefusedError` for more bytes than announced, or where the disk is full."""
        if self._held + len(data) > self._size:
            raise refuse(
                RefusalCode.WRONG_SIZE,
                expected=f"the {self._size} bytes that were announced",
                found="more",
                remedy="announce the blob's size",
            )
        if self._descriptor is None:
            return  # Complete, so that these were no bytes.
        view = memoryview(data)
        try:
            while view:
                count = os.write(self._descriptor, view)
                self._held += count
                view = view[count:]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full() from error
            raise

    def complete(self) -> str:
        """Give the file its final name and return that; raises `RefusedError` if bytes are missing."""
        if self._held != self._size:
            raise refuse(
                RefusalCode.WRONG_SIZE,
                expected=f"the {self._size} bytes that were announced",
                found=f"{self._held}",
                remedy="go on with the upload where it stopped",
            )
        os.rename(self._part, self._blob)  # A rename to itself where only the verdict is asked for again.
        return self._blob.name


def disk_full() -> RefusedError:
    """The refusal where the spool's disk is full."""
    return refuse(
        RefusalCode.BUSY,
        expected="room in the appliance's spool",
        found="a full disk",
        remedy="try again once the appliance's operator has made room",
    )


def _open(part: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(part, flags, _FILE_MODE)


def _size(path: Path) -> int:
    try:
        return path.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
