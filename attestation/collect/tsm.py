"""configfs-tsm, Linux's one interface to reports of whichever TEE it runs in (from 6.7 on: SEV-SNP, TDX).

A request is a directory: made, written to, read, removed. The kernel makes the report when it is first read after a
write, and counts writes in `generation`. One directory a request keeps others of good will out; the count notices
those of ill will, and a write that the kernel dropped (what it thinks of a binary attribute it says to nobody).

`ReportInterface` is that interface, `collect` the one way to use it. Sources:
Documentation/ABI/testing/configfs-tsm-report, drivers/virt/coco/guest/report.c and fs/configfs/file.c in Linux.
"""

import errno
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from attestation.collect.errors import CollectionFailed, NotOffered
from attestation.collect.sev_guest import failure_in_words
from attestation.report_data import REPORT_DATA_BYTES

LARGEST_BLOB_BYTES: Final = 64 * 1024
"""More than any kernel hands out (TSM_REPORT_OUTBLOB_MAX: 32 KiB in the newest that was read)."""
PROVIDER_SNP: Final = "sev_guest"
PROVIDER_TDX: Final = "tdx_guest"
HIGHEST_PRIVILEGE_LEVEL: Final = 3
_TEXT_BYTES = 4096
_COUNTER = 2**64
_PROVIDER = re.compile(r"[a-z0-9_-]{1,64}")


class ReportInstance(Protocol):
    """One request's directory. Each method raises `OSError` as the kernel does."""

    def has(self, attribute: str) -> bool:
        """Whether this provider has the attribute at all."""
        ...

    def write(self, attribute: str, data: bytes) -> None:
        """Write an attribute in one piece, and close it."""
        ...

    def read(self, attribute: str, limit_bytes: int) -> bytes:
        """Read an attribute to its end, or to one byte more than the limit."""
        ...


class ReportInterface(Protocol):
    """Where requests are made."""

    @property
    def name(self) -> str:
        """Its path, for messages."""
        ...

    def obstacle(self) -> str | None:
        """Why no request can be made, in words; None if one can."""
        ...

    def request(self) -> AbstractContextManager[ReportInstance]:
        """A directory of its own, removed at the end; raises `OSError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TsmReport:
    """What the kernel made. `auxiliary` is empty where the provider has none; SEV-SNP's is the host's certificates."""

    provider: str
    report: bytes
    auxiliary: bytes


def provider_of(interface: ReportInterface) -> str:
    """Who makes this machine's reports ("sev_guest"); raises `NotOffered`."""
    why_not = interface.obstacle()
    if why_not is not None:
        raise NotOffered(f"{interface.name}: {why_not}")
    try:
        with interface.request() as instance:
            return _provider(instance, interface.name)
    except OSError as error:
        raise NotOffered(f"{interface.name}: {_in_words(error)}") from error


def collect(interface: ReportInterface, report_data: bytes) -> TsmReport:
    """A report over 64 bytes, at the lowest privilege level that the kernel allows; raises `CollectionFailed`."""
    if len(report_data) != REPORT_DATA_BYTES:
        raise ValueError(f"report_data: expected {REPORT_DATA_BYTES} bytes, found {len(report_data)}")
    try:
        with interface.request() as instance:
            return _collect(instance, report_data, interface.name)
    except OSError as error:
        raise CollectionFailed(f"{interface.name}: {_in_words(error)}") from error


def _collect(instance: ReportInstance, report_data: bytes, name: str) -> TsmReport:
    provider = _provider(instance, name)
    before = _number(instance, "generation", name)
    writes = 1
    if instance.has("privlevel"):
        # A provider of levels takes 0 where nothing was written, and firmware refuses what is below the guest's own.
        level = _number(instance, "privlevel_floor", name) if instance.has("privlevel_floor") else 0
        if level > HIGHEST_PRIVILEGE_LEVEL:
            raise CollectionFailed(f"{name}: privlevel_floor: expected 0 to {HIGHEST_PRIVILEGE_LEVEL}, found {level}")
        instance.write("privlevel", b"%d" % level)
        writes += 1
    instance.write("inblob", report_data)
    report = _blob(instance, "outblob", name)
    auxiliary = _blob(instance, "auxblob", name) if instance.has("auxblob") else b""
    after, expected = _number(instance, "generation", name), (before + writes) % _COUNTER
    if after != expected:
        raise CollectionFailed(
            f"{name}: generation: expected {expected} after {writes} writes of ours, found {after}: another process "
            "wrote to this request, or the kernel dropped a write; the report was thrown away"
        )
    if not report:
        raise CollectionFailed(f"{name}: outblob: expected a report, found nothing")
    return TsmReport(provider=provider, report=report, auxiliary=auxiliary)


def _provider(instance: ReportInstance, name: str) -> str:
    found = instance.read("provider", _TEXT_BYTES).decode("ascii", "replace").strip()
    if not _PROVIDER.fullmatch(found):
        raise CollectionFailed(f"{name}: provider: expected a name, found {found[:64]!a}")
    return found


def _number(instance: ReportInstance, attribute: str, name: str) -> int:
    text = instance.read(attribute, _TEXT_BYTES).strip()
    if not re.fullmatch(rb"[0-9]{1,20}", text):
        raise CollectionFailed(f"{name}: {attribute}: expected a number, found {text[:64]!a}")
    return int(text)


def _blob(instance: ReportInstance, attribute: str, name: str) -> bytes:
    data = instance.read(attribute, LARGEST_BLOB_BYTES)
    if len(data) > LARGEST_BLOB_BYTES:
        raise CollectionFailed(f"{name}: {attribute}: expected at most {LARGEST_BLOB_BYTES} bytes, found more")
    return data


def _in_words(error: OSError) -> str:
    if error.errno == errno.ENXIO:
        return "no TEE's driver has registered there (ENXIO): this is no confidential guest, or its driver isn't loaded"
    if error.errno == errno.EBUSY:
        return "EBUSY: attributes were written too often without a read in between"
    if error.errno == errno.EFBIG:
        return "EFBIG: the report is larger than this kernel hands out; ask the provider for a kernel that fits"
    if error.errno == errno.EINVAL:
        return "EINVAL: the driver refused the request, its privilege level or what it commits to"
    return failure_in_words(error)
