"""Quotes inside other things: behind Open Enclave's header, or in a member of a JSON object.

Trusts nothing, and judges nothing: what is found is raw evidence like any other. Called where somebody hands in a file
(`attestation.recognise`), never by a party that decides upon it. Source of the header: openenclave/openenclave,
include/openenclave/internal/report.h, `oe_report_header_t`.
"""

import base64
import json
import re
from typing import Final

from attestation.dcap.quote import ECDSA_P256, HEADER_BYTES, TEE_TYPES
from attestation.tee import Tee

VERSIONS: Final = {Tee.SGX: (3,), Tee.TDX: (4, 5)}
_OPEN_ENCLAVE: Final = (1).to_bytes(4, "little") + (2).to_bytes(4, "little")
"""Version 1, and the type of a report for verifiers elsewhere; 8 bytes with the quote's size follow."""
_OPEN_ENCLAVE_BYTES: Final = 16
_HEXADECIMAL = re.compile(r"([0-9a-fA-F]{2})+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def is_quote(data: bytes, tee: Tee) -> bool:
    """Whether bytes begin like a quote of this TEE."""
    version, key_type, tee_type = data[:2], data[2:4], data[4:8]
    return (
        len(data) >= HEADER_BYTES
        and int.from_bytes(version, "little") in VERSIONS[tee]
        and int.from_bytes(key_type, "little") == ECDSA_P256
        and int.from_bytes(tee_type, "little") == TEE_TYPES[tee]
    )


def quote_in(data: bytes) -> bytes | None:
    """The one quote in `data`, or None for none or several."""
    found = {quote for item in (data, *_members(data)) if (quote := _unwrapped(item)) is not None}
    return found.pop() if len(found) == 1 else None


def _unwrapped(data: bytes) -> bytes | None:
    size = int.from_bytes(data[len(_OPEN_ENCLAVE) : _OPEN_ENCLAVE_BYTES], "little")
    if data.startswith(_OPEN_ENCLAVE) and size == len(data) - _OPEN_ENCLAVE_BYTES:
        data = data[_OPEN_ENCLAVE_BYTES:]
    return data if any(is_quote(data, tee) for tee in VERSIONS) else None


def _members(data: bytes) -> list[bytes]:
    """What the strings of a JSON object may stand for."""
    if data.lstrip()[:1] != b"{":
        return []
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return []
    found = []
    for text in value.values() if isinstance(value, dict) else ():
        if isinstance(text, str) and _HEXADECIMAL.fullmatch(text):
            found.append(bytes.fromhex(text))
        elif isinstance(text, str) and _BASE64.fullmatch(text) and len(text) % 4 == 0:
            found.append(base64.b64decode(text))
    return found
