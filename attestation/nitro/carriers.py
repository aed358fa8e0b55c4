"""Attestation documents inside other things: a certificate with one among its names, a container of other software.

Trusts nothing, and judges nothing: what is found is raw evidence like any other. Called where somebody hands in a file
(`attestation.recognise`), never by a party that decides upon it.
"""

import base64
import re
from typing import Final

from attestation.errors import EvidenceMalformed
from attestation.nitro.cbor import decode_first
from attestation.nitro.cose import START

_IN_HEXADECIMAL: Final = re.compile(re.escape(START.hex().encode("ascii")) + rb"(?:[0-9a-f]{2})*")
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")
_MOST = 8


def document_in(data: bytes) -> bytes | None:
    """The one envelope in `data`, as bytes, in hexadecimal, or in a PEM certificate in it; None for none or several."""
    found = set()
    for layer in (data, *(_decoded(text) for text in _CERTIFICATE.findall(data)[:_MOST])):
        for text in _IN_HEXADECIMAL.findall(layer)[:_MOST]:
            found.add(_envelope(bytes.fromhex(text.decode("ascii"))))
        if (start := layer.find(START)) >= 0:
            found.add(_envelope(layer[start:]))
    found.discard(b"")
    return found.pop() if len(found) == 1 else None


def _envelope(data: bytes) -> bytes:
    try:
        return data[: decode_first(data, "document")[1]]
    except EvidenceMalformed:
        return b""


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError:
        return b""
