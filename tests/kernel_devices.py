"""`/dev/sev-guest` and `/dev/nsm` as their drivers behave: requests are read from, and answers written to, memory.

Sources: drivers/virt/coco/sev-guest/sev-guest.c and drivers/misc/nsm.c in Linux.
"""

import ctypes
import errno
import os
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import cbor2
from kernel_firmware import Firmware

from attestation.simulated.chip import simulated_chip
from attestation.snp.cert_table import CertTable, TableEntry

GET_REPORT, GET_DERIVED_KEY, GET_EXT_REPORT = 0xC0205300, 0xC0205301, 0xC0205302
MAXIMUM_TABLE = 0x4000
HOST_INVALID_LENGTH, HOST_BUSY = 1, 2


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


VCEK = uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd")
ARK = uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
CRL = uuid.UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")


def certificate_table(*entries: tuple[uuid.UUID, bytes]) -> bytes:
    """A table as a host writes it."""
    return CertTable(entries=tuple(TableEntry(guid=guid.bytes, data=data) for guid, data in entries)).encode()


@dataclass
class FakeSevGuest:
    """The driver and the host beneath it. `host` may raise (host error, firmware error) for a request."""

    firmware: Firmware = field(default_factory=Firmware)
    table: bytes = field(default_factory=lambda: certificate_table((VCEK, simulated_chip().endorsement)))
    vmpck: bool = True
    absent: str | None = None
    host: Callable[[int], tuple[int, int]] | None = None
    calls: list[int] = field(default_factory=list)
    before_answer: Callable[[], None] | None = None
    name: str = "/dev/sev-guest"

    def obstacle(self) -> str | None:
        return self.absent

    def ioctl(self, request: int, argument: bytearray) -> None:
        self.calls.append(request)
        version, request_address, response_address, _ = struct.unpack("<B7xQQQ", argument)
        if not version:
            raise failure(errno.EINVAL)
        try:
            handle = {
                GET_REPORT: self._report,
                GET_DERIVED_KEY: self._derived_key,
                GET_EXT_REPORT: self._extended_report,
            }[request]
        except KeyError:
            raise failure(errno.ENOTTY) from None
        if not request_address or not response_address:
            raise failure(errno.EINVAL)
        try:
            handle(request_address, response_address)
        except _Exit as exit_information:
            argument[24:] = struct.pack("<Q", exit_information.host << 32 | exit_information.firmware)
            raise failure(exit_information.number) from None
        # exitinfo2 is copied back only where it isn't zero: after success the caller's own value stays.

    def _send(self, answer: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        if not self.vmpck:
            raise _Exit(errno.ENOTTY, 0, 0xFF)
        if self.host is not None:
            host, firmware = self.host(len(self.calls))
            if host or firmware:
                self.vmpck = False
                raise _Exit(errno.ETIMEDOUT if host == HOST_BUSY else errno.EIO, host, firmware)
        return answer()

    def _report(self, request_address: int, response_address: int) -> None:
        request = ctypes.string_at(request_address, 96)
        _answer_report(response_address, *self._send(lambda: self._ask_report(request)))

    def _ask_report(self, request: bytes) -> tuple[int, bytes]:
        user_data, vmpl, reserved = struct.unpack("<64sI28s", request)
        return (0x16, b"") if any(reserved) else self.firmware.report(user_data, vmpl)

    def _extended_report(self, request_address: int, response_address: int) -> None:
        request = ctypes.string_at(request_address, 112)
        address, length = struct.unpack_from("<QI", request, 96)
        if not address or not length:
            address = length = 0
        elif length > MAXIMUM_TABLE or length % 4096:
            raise failure(errno.EINVAL)
        table = self.table
        if length < len(table):
            # The driver repeats it as a plain request, so as not to use a nonce twice, and throws that answer away.
            self._send(lambda: self._ask_report(request[:96]))
            pages = -(-len(table) // 4096) * 4096
            ctypes.memmove(request_address + 104, struct.pack("<I", pages), 4)
            raise _Exit(errno.EIO, HOST_INVALID_LENGTH, 0)
        status, report = self._send(lambda: self._ask_report(request[:96]))
        if self.before_answer is not None:
            self.before_answer()
        if length:
            ctypes.memmove(address, table.ljust(length, b"\0"), length)
        _answer_report(response_address, status, report)

    def _derived_key(self, request_address: int, response_address: int) -> None:
        root, reserved, fields, vmpl, svn, tcb = struct.unpack("<IIQIIQ", ctypes.string_at(request_address, 32))
        status, key = self._send(lambda: (0x16, b"") if reserved else self.firmware.key(root, fields, vmpl, svn, tcb))
        ctypes.memmove(response_address, struct.pack("<I28x32s", status, key), 64)


class _Exit(Exception):
    def __init__(self, number: int, host: int, firmware: int) -> None:
        self.number, self.host, self.firmware = number, host, firmware


def _answer_report(address: int, status: int, report: bytes) -> None:
    ctypes.memmove(address, (struct.pack("<II24x", status, len(report)) + report).ljust(4000, b"\0"), 4000)


@dataclass
class FakeNsm:
    """The Nitro security module: CBOR in, CBOR out. `answer` takes the place of what it would say."""

    module_id: str = "i-0123456789abcdef0-enc0123456789abcdef"
    absent: str | None = None
    number: int | None = None
    answer: bytes | None = None
    requests: list[object] = field(default_factory=list)
    name: str = "/dev/nsm"

    def obstacle(self) -> str | None:
        return self.absent

    def ioctl(self, request: int, argument: bytearray) -> None:
        if request != 0xC0200A00:
            raise failure(errno.EINVAL)
        request_address, request_length, response_address, response_length = struct.unpack("<QQQQ", argument)
        if request_length > 0x1000:
            raise failure(errno.EMSGSIZE)
        if self.number is not None:
            raise failure(self.number)
        asked = cbor2.loads(ctypes.string_at(request_address, request_length))
        self.requests.append(asked)
        answer = self.answer if self.answer is not None else cbor2.dumps(self._answer(asked))
        # Cut off without a word where the buffer is too small.
        length = min(response_length, len(answer), 0x3000)
        ctypes.memmove(response_address, answer, length)
        argument[24:] = struct.pack("<Q", length)

    def _answer(self, asked: object) -> object:
        if asked == "DescribeNSM":
            return {"DescribeNSM": {"version_major": 1, "module_id": self.module_id, "max_pcrs": 32}}
        if not isinstance(asked, dict) or set(asked) != {"Attestation"}:
            return {"Error": "InvalidOperation"}
        wanted = asked["Attestation"]
        if set(wanted) != {"user_data", "nonce", "public_key"}:
            return {"Error": "InvalidArgument"}
        if len(wanted["user_data"] or b"") > 512:
            return {"Error": "InputTooLarge"}
        return {"Attestation": {"document": b"signed:" + cbor2.dumps(wanted)}}
