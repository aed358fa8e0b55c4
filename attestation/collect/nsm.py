"""The Nitro security module, `/dev/nsm`: signed documents about the enclave that asks.

Requests and responses are CBOR in two buffers. The kernel cuts a response off at the buffer's end without a word, so
that the buffer is as large as a response can be. Sources: include/uapi/linux/nsm.h and drivers/misc/nsm.c in Linux;
aws/aws-nitro-enclaves-nsm-api, src/api/mod.rs.
"""

import errno
import io
import struct
from typing import Final

import cbor2

from attestation.collect.errors import CollectionFailed
from attestation.collect.kernel import Device, KernelBuffer, strerror

IOCTL_RAW: Final = 0xC0200A00
"""_IOWR(0x0A, 0, 32 bytes)."""
MESSAGE: Final = struct.Struct("<QQQQ")
"""request.addr, request.len, response.addr, response.len."""
REQUEST_LIMIT_BYTES: Final = 0x1000
RESPONSE_LIMIT_BYTES: Final = 0x3000
USER_DATA_LIMIT_BYTES: Final = 512


class Nsm:
    """The module, through its device."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def attest(self, *, user_data: bytes) -> bytes:
        """A signed document (COSE_Sign1) with up to 512 bytes of `user_data`; raises `CollectionFailed`."""
        if len(user_data) > USER_DATA_LIMIT_BYTES:
            raise ValueError(f"user_data: expected at most {USER_DATA_LIMIT_BYTES} bytes, found {len(user_data)}")
        answer = self._ask({"Attestation": {"user_data": user_data, "nonce": None, "public_key": None}}, "Attestation")
        document = answer.get("document")
        if not isinstance(document, bytes) or not document:
            raise CollectionFailed(f"{self._device.name}: expected an attestation document, found none")
        return document

    def describe(self) -> str:
        """The module's name; raises `CollectionFailed`."""
        name = self._ask("DescribeNSM", "DescribeNSM").get("module_id")
        if not isinstance(name, str) or not name:
            raise CollectionFailed(f"{self._device.name}: expected a module_id, found none")
        return name

    def _ask(self, request: object, kind: str) -> dict[object, object]:
        encoded = cbor2.dumps(request)
        if len(encoded) > REQUEST_LIMIT_BYTES:
            raise ValueError(f"request: expected at most {REQUEST_LIMIT_BYTES} bytes, found {len(encoded)}")
        answer = self._decode(self._exchange(encoded))
        if isinstance(answer, dict) and set(answer) == {"Error"}:
            raise CollectionFailed(f"{self._device.name}: the module answered {str(answer['Error'])[:64]!a}")
        if not isinstance(answer, dict) or set(answer) != {kind} or not isinstance(answer[kind], dict):
            raise CollectionFailed(f"{self._device.name}: expected an answer to {kind}, found another")
        found: dict[object, object] = answer[kind]
        return found

    def _exchange(self, encoded: bytes) -> bytes:
        with KernelBuffer(encoded, len(encoded)) as request, KernelBuffer(b"", RESPONSE_LIMIT_BYTES) as response:
            argument = bytearray(MESSAGE.pack(request.address, len(encoded), response.address, RESPONSE_LIMIT_BYTES))
            try:
                self._device.ioctl(IOCTL_RAW, argument)
            except OSError as error:
                raise CollectionFailed(f"{self._device.name}: {_in_words(error)}") from error
            length = MESSAGE.unpack(argument)[3]
            if not 0 < length <= RESPONSE_LIMIT_BYTES:
                raise CollectionFailed(f"{self._device.name}: expected a response, found one of {length} bytes")
            return response.read(0, length)

    def _decode(self, data: bytes) -> object:
        stream = io.BytesIO(data)
        try:
            answer = cbor2.load(stream, allow_duplicate_keys=False, max_depth=8)
        except (cbor2.CBORError, ValueError, TypeError, EOFError, RecursionError) as error:
            raise CollectionFailed(f"{self._device.name}: expected CBOR, found something else or its half") from error
        if stream.read(1):
            raise CollectionFailed(f"{self._device.name}: expected one answer, found more bytes behind it")
        return answer


def _in_words(error: OSError) -> str:
    if error.errno == errno.EMSGSIZE:
        return "EMSGSIZE: the request is longer than the module takes"
    if error.errno == errno.ETIMEDOUT:
        return "the module did not answer within 120 s"
    return strerror(error)
