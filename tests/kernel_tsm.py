"""configfs-tsm as the kernel behaves: reports made lazily, writes counted, attributes that go one way only.

`TsmKernel` is drivers/virt/coco/guest/report.c; `FakeReports` gives it out through the Protocol, `HookedOs` as
files of a directory, by standing in for `os` in `attestation.collect.configfs`. Sources also: fs/configfs/file.c
(a binary attribute is taken over when it is closed, and what the driver thinks of it nobody hears).
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kernel_devices import FakeSevGuest, failure

WRITE_ONLY = {"inblob", "privlevel", "service_provider", "service_guid", "service_manifest_version"}
BINARY = {"inblob", "outblob", "auxblob", "manifestblob"}
OUTBLOB_LIMIT = 32 * 1024
WRAP = 2**64


@dataclass
class TsmRequest:
    """One item's state in the kernel."""

    kernel: "TsmKernel"
    write_generation: int = 0
    read_generation: int = 0
    inblob: bytes = b""
    privlevel: int = 0
    outblob: bytes | None = None
    auxblob: bytes = b""

    def store(self, attribute: str, data: bytes) -> None:
        """What happens to a write; a binary attribute's error is lost on its way."""
        if attribute == "privlevel":
            if not data.strip().isdigit() or not self.kernel.floor <= int(data) <= 3:
                raise failure(errno.EINVAL)
            self._advance()
            self.privlevel = int(data)
        elif attribute == "inblob":
            self._advance()
            self.inblob = data
        else:
            raise failure(errno.EACCES)

    def show(self, attribute: str) -> bytes:
        if attribute == "generation":
            return b"%d\n" % self.write_generation
        if self.kernel.provider is None:
            raise failure(errno.ENXIO)
        if attribute == "provider":
            return self.kernel.provider.encode() + b"\n"
        if attribute == "privlevel_floor":
            return b"%d\n" % self.kernel.floor
        if attribute not in ("outblob", "auxblob"):
            raise failure(errno.EACCES)
        self.kernel.interfere(attribute, self)
        self._generate()
        data = (self.outblob or b"") if attribute == "outblob" else self.auxblob
        if len(data) > OUTBLOB_LIMIT:
            raise failure(errno.EFBIG)
        return data

    def _advance(self) -> None:
        if self.write_generation == (self.read_generation - 1) % WRAP:
            raise failure(errno.EBUSY)
        self.write_generation = (self.write_generation + 1) % WRAP

    def _generate(self) -> None:
        if not self.inblob:
            raise failure(errno.EINVAL)
        if self.outblob is not None and self.read_generation == self.write_generation:
            return
        self.outblob, self.auxblob = self.kernel.new_report(self.inblob, self.privlevel)
        self.read_generation = self.write_generation


@dataclass
class TsmKernel:
    """The provider and its items. `interfere(attribute, request)` runs before each read of a blob."""

    provider: str | None = "sev_guest"
    floor: int = 0
    quote: bytes = b""
    device: FakeSevGuest = field(default_factory=FakeSevGuest)
    interfere: Callable[[str, TsmRequest], None] = lambda attribute, request: None
    made: int = 0
    number: int | None = None
    first_generation: int = 0
    items: dict[str, TsmRequest] = field(default_factory=dict)

    @property
    def attributes(self) -> set[str]:
        common = {"generation", "provider", "inblob", "outblob"}
        return common if self.provider == "tdx_guest" else {*common, "auxblob", "privlevel", "privlevel_floor"}

    def make(self, name: str) -> TsmRequest:
        if self.provider is None:
            raise failure(errno.ENXIO)
        if name in self.items:
            raise failure(errno.EEXIST)
        start = self.first_generation
        self.items[name] = TsmRequest(kernel=self, write_generation=start, read_generation=start)
        return self.items[name]

    def drop(self, name: str) -> None:
        del self.items[name]

    def new_report(self, inblob: bytes, privlevel: int) -> tuple[bytes, bytes]:
        self.made += 1
        if self.number is not None:
            raise failure(self.number)
        if self.provider == "tdx_guest":
            return self.quote + inblob, b""
        if len(inblob) != 64:
            raise failure(errno.EINVAL)
        if not self.device.vmpck:
            raise failure(errno.ENOTTY)
        status, report = self.device.firmware.report(inblob, privlevel)
        if status:
            raise failure(errno.EINVAL)
        return report, self.device.table


class FakeInstance:
    """An item, with the ways that its attributes go."""

    def __init__(self, request: TsmRequest) -> None:
        self._request = request

    def has(self, attribute: str) -> bool:
        return attribute in self._request.kernel.attributes

    def write(self, attribute: str, data: bytes) -> None:
        self._require(attribute, attribute in WRITE_ONLY)
        try:
            self._request.store(attribute, data)
        except OSError:
            if attribute not in BINARY:
                raise

    def read(self, attribute: str, limit_bytes: int) -> bytes:
        self._require(attribute, attribute not in WRITE_ONLY)
        return self._request.show(attribute)[: limit_bytes + 1]

    def _require(self, attribute: str, allowed: bool) -> None:
        if not self.has(attribute):
            raise failure(errno.ENOENT)
        if not allowed:
            raise failure(errno.EACCES)


class FakeReports:
    """The interface, in memory."""

    name = "/sys/kernel/config/tsm/report"

    def __init__(self, kernel: TsmKernel, absent: str | None = None) -> None:
        self.kernel = kernel
        self.absent = absent
        self._count = 0

    def obstacle(self) -> str | None:
        return self.absent

    @contextmanager
    def request(self) -> Iterator[FakeInstance]:
        self._count += 1
        name = f"request-{self._count}"
        item = self.kernel.make(name)
        try:
            yield FakeInstance(item)
        finally:
            self.kernel.drop(name)


class HookedOs:
    """`os` over a directory that is given the kernel's ways: hooks before and after what touches a file of an item."""

    def __init__(self, kernel: TsmKernel) -> None:
        self._kernel = kernel
        self._open: dict[int, tuple[str, Path]] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def mkdir(self, path: Path, mode: int) -> None:
        self._kernel.make(path.name)
        os.mkdir(path, mode)
        for attribute in self._kernel.attributes:
            (path / attribute).touch(mode=0o200 if attribute in WRITE_ONLY else 0o400)

    def rmdir(self, path: Path) -> None:
        self._kernel.drop(path.name)
        shutil.rmtree(path)

    def open(self, path: Path, flags: int) -> int:
        item = self._kernel.items[path.parent.name]
        writing = flags & os.O_ACCMODE == os.O_WRONLY
        if not path.exists():
            raise failure(errno.ENOENT)
        if writing is not (path.name in WRITE_ONLY):
            raise failure(errno.EACCES)
        if not writing:
            content = item.show(path.name)
            path.chmod(0o600)
            path.write_bytes(content)
        else:
            path.chmod(0o600)
            path.write_bytes(b"")
        descriptor = os.open(path, flags)
        self._open[descriptor] = (path.parent.name, path)
        return descriptor

    def write(self, descriptor: int, data: bytes) -> int:
        name, path = self._open[descriptor]
        if path.name not in BINARY:
            self._kernel.items[name].store(path.name, data)
        return os.write(descriptor, data)

    def close(self, descriptor: int) -> None:
        name, path = self._open.pop(descriptor)
        os.close(descriptor)
        if path.name in WRITE_ONLY & BINARY:
            with suppress(OSError):
                self._kernel.items[name].store(path.name, path.read_bytes())
