"""`/dev/sev-guest`: reports, the host's certificates, and a key derived for this guest, from the SNP firmware.

Everything travels through memory that the host sees, encrypted to the firmware under a key of this guest (VMPCK). Once
the kernel can't tell which requests arrived it throws that key away, because another request would use a nonce twice:
from then on there is no evidence until the guest restarts. So no failed request is repeated here, but for the one that
the host answers with the size of buffer that it wants.

Sources: include/uapi/linux/sev-guest.h and drivers/virt/coco/sev-guest/sev-guest.c; AMD 56860, MSG_REPORT_REQ and
MSG_KEY_REQ; GHCB (AMD 56421) for the certificate table.
"""

import errno
import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from attestation.collect.errors import CollectionFailed
from attestation.collect.kernel import Device, KernelBuffer, strerror
from attestation.report_data import REPORT_DATA_BYTES

GET_REPORT: Final = 0xC0205300
GET_DERIVED_KEY: Final = 0xC0205301
GET_EXT_REPORT: Final = 0xC0205302
"""_IOWR('S', n, 32 bytes)."""

REQUEST: Final = struct.Struct("<B7xQQQ")
"""snp_guest_request_ioctl: msg_version, req_data, resp_data, exitinfo2."""
REPORT_REQUEST: Final = struct.Struct("<64sI28x")
"""snp_report_req: user_data, vmpl."""
EXT_REPORT_REQUEST: Final = struct.Struct("<64sI28xQI4x")
"""snp_ext_report_req: a snp_report_req, certs_address, certs_len."""
DERIVED_KEY_REQUEST: Final = struct.Struct("<IIQIIQ")
"""snp_derived_key_req: root_key_select, reserved, guest_field_select, vmpl, guest_svn, tcb_version."""
RESPONSE_HEADER: Final = struct.Struct("<II24x")
"""Status and, in a report's response, its size in bytes."""

REPORT_RESPONSE_BYTES: Final = 4000
DERIVED_KEY_RESPONSE_BYTES: Final = 64
DERIVED_KEY_BYTES: Final = 32
CERTIFICATE_TABLE_BYTES: Final = 16 * 1024
"""SEV_FW_BLOB_MAX_SIZE: the largest table that today's kernels pass on."""
LARGEST_CERTIFICATE_TABLE_BYTES: Final = 64 * 1024
HIGHEST_VMPL: Final = 3

_MESSAGE_VERSION = 1
_UNTOUCHED = 0xFF
_HOST_INVALID_LENGTH = 1
_STATUS = {0x16: "invalid parameters", 0x27: "no such key"}
_ROOT_KEY_OF_THE_CHIP = 0
_KEY_LABEL = b"strongroom/sev-guest-key/v1"


class GuestField(IntFlag):
    """What is mixed into a derived key (guest_field_select): change any of it, and it is another key."""

    POLICY = 1 << 0
    IMAGE_ID = 1 << 1
    FAMILY_ID = 1 << 2
    MEASUREMENT = 1 << 3
    GUEST_SVN = 1 << 4
    TCB_VERSION = 1 << 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReport:
    """A report as the firmware made it, and the host's table of certificates, which may be empty."""

    report: bytes
    certificate_table: bytes


class SevGuest:
    """The firmware, through the device of a guest that runs at `vmpl`."""

    def __init__(self, device: Device, vmpl: int) -> None:
        """`vmpl`: 0 to 3, what reports and keys are asked for; firmware refuses a lower number than the guest's own."""
        if not 0 <= vmpl <= HIGHEST_VMPL:
            raise ValueError(f"vmpl: expected 0 to {HIGHEST_VMPL}, found {vmpl}")
        self._device = device
        self._vmpl = vmpl

    def report(self, report_data: bytes) -> SnpReport:
        """A report over 64 bytes, with what certificates the host has; raises `CollectionFailed`."""
        if len(report_data) != REPORT_DATA_BYTES:
            raise ValueError(f"report_data: expected {REPORT_DATA_BYTES} bytes, found {len(report_data)}")
        size = CERTIFICATE_TABLE_BYTES
        for _ in range(2):
            with KernelBuffer(b"", size) as table:
                content = EXT_REPORT_REQUEST.pack(report_data, self._vmpl, table.address, size)
                with KernelBuffer(content, EXT_REPORT_REQUEST.size) as request:
                    try:
                        report = self._report(GET_EXT_REPORT, request)
                    except _TableTooLarge:
                        needed = EXT_REPORT_REQUEST.unpack(request.read(0, EXT_REPORT_REQUEST.size))[3]
                    else:
                        return SnpReport(report=report, certificate_table=table.read(0, size))
            if not size < needed <= LARGEST_CERTIFICATE_TABLE_BYTES:
                break
            size = -(-needed // 4096) * 4096
        # More than anybody passes on, or more again: the table is a convenience, the report is not.
        content = REPORT_REQUEST.pack(report_data, self._vmpl)
        with KernelBuffer(content, REPORT_REQUEST.size) as request:
            return SnpReport(report=self._report(GET_REPORT, request), certificate_table=b"")

    def derived_key(self, *, fields: GuestField, guest_svn: int, tcb_version: int) -> bytes:
        """32 bytes from the chip's own key and the named fields of this guest, through HKDF-SHA-256 with a label.

        `guest_svn` (at most the launch's) and `tcb_version` (at most COMMITTED_TCB, as a little-endian integer) count
        where their field is mixed in. The firmware's key is zeroed in every buffer of ours. Raises `CollectionFailed`.
        """
        content = DERIVED_KEY_REQUEST.pack(_ROOT_KEY_OF_THE_CHIP, 0, fields, self._vmpl, guest_svn, tcb_version)
        with (
            KernelBuffer(content, DERIVED_KEY_REQUEST.size) as request,
            KernelBuffer(b"", DERIVED_KEY_RESPONSE_BYTES) as response,
        ):
            self._ask(GET_DERIVED_KEY, request, response)
            status, _ = RESPONSE_HEADER.unpack(response.read(0, RESPONSE_HEADER.size))
            self._require_success(status)
            key = response.view(RESPONSE_HEADER.size, RESPONSE_HEADER.size + DERIVED_KEY_BYTES)
            if not any(key):
                raise CollectionFailed(f"{self._device.name}: expected a derived key, found zero bytes")
            return HKDF(algorithm=SHA256(), length=DERIVED_KEY_BYTES, salt=None, info=_KEY_LABEL).derive(key)

    def _report(self, number: int, request: KernelBuffer) -> bytes:
        with KernelBuffer(b"", REPORT_RESPONSE_BYTES) as response:
            self._ask(number, request, response)
            status, size = RESPONSE_HEADER.unpack(response.read(0, RESPONSE_HEADER.size))
            self._require_success(status)
            if not 0 < size <= REPORT_RESPONSE_BYTES - RESPONSE_HEADER.size:
                raise CollectionFailed(f"{self._device.name}: expected a report, found one of {size} bytes")
            return response.read(RESPONSE_HEADER.size, RESPONSE_HEADER.size + size)

    def _ask(self, number: int, request: KernelBuffer, response: KernelBuffer) -> None:
        argument = bytearray(REQUEST.pack(_MESSAGE_VERSION, request.address, response.address, _UNTOUCHED))
        try:
            self._device.ioctl(number, argument)
        except OSError as error:
            # Only a failed request says anything here; after a good one the kernel leaves it untouched.
            exit_information = REQUEST.unpack(argument)[3]
            firmware, host = exit_information & 0xFFFF_FFFF, exit_information >> 32
            # EIO: the host wants more room. EINVAL: the kernel passes on no table of that size; nothing was asked.
            if (error.errno, host) == (errno.EIO, _HOST_INVALID_LENGTH) or (
                error.errno == errno.EINVAL and number == GET_EXT_REPORT
            ):
                raise _TableTooLarge from error
            raise CollectionFailed(f"{self._device.name}: {failure_in_words(error, firmware, host)}") from error

    def _require_success(self, status: int) -> None:
        if status:
            reason = _STATUS.get(status, "unknown to us")
            raise CollectionFailed(f"{self._device.name}: the firmware refused: status {status:#x} ({reason})")


class _TableTooLarge(Exception):
    """The host's certificates don't fit, and the request says into what they would."""


def failure_in_words(error: OSError, firmware: int = _UNTOUCHED, host: int = 0) -> str:
    """Why a request failed, and whether another could succeed. The codes are exitinfo2's halves, where there is one."""
    if error.errno == errno.ENOTTY:
        return (
            "the kernel threw away this guest's key to the firmware (VMPCK) after an earlier request failed; there is "
            "no evidence until the guest restarts"
        )
    if error.errno == errno.ETIMEDOUT:
        return "the host kept the firmware busy for 60 s, and the kernel gave up; the guest may have to restart"
    if error.errno == errno.EIO:
        codes = "" if (firmware, host) == (_UNTOUCHED, 0) else f" (firmware error {firmware:#x}, host error {host:#x})"
        return f"the request to the firmware failed{codes}; the kernel allows no other until the guest restarts"
    return strerror(error)
