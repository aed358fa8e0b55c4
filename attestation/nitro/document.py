"""Attestation documents of the Nitro hypervisor: what an enclave's document claims, read strictly and written.

Trusts nothing: a document that parses is still to be authenticated and appraised.

Source: aws-nitro-enclaves-nsm-api docs/attestation_process.md sections 2.2 and 3.2.2. Where that forbids null, real
documents write it for an optional field that was not given; it counts as absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cbor2

from attestation.errors import EvidenceMalformed
from attestation.nitro.cbor import decode

PCR_BYTES: Final = 48
PCRS: Final = range(32)
MAXIMUM_CERTIFICATE_BYTES: Final = 1024
_DIGEST = "SHA384"
_YEAR_10000_MS = 253_402_300_800_000
_MANDATORY = ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle")
_OPTIONAL = {"public_key": (1, 1024), "user_data": (0, 512), "nonce": (0, 512)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationDocument:
    """What a document claims.

    `module_id` names the enclave, `timestamp_ms` is UTC since 1970, `pcrs` are the locked platform configuration
    registers by index, 48 bytes each. `cabundle` is the chain above `certificate` (both DER), the root first.
    """

    module_id: str
    timestamp_ms: int
    pcrs: Mapping[int, bytes]
    certificate: bytes
    cabundle: tuple[bytes, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None

    @classmethod
    def parse(cls, payload: bytes) -> "AttestationDocument":
        """Read a payload; raises `EvidenceMalformed` naming the field."""
        item = decode(payload, "payload")
        if type(item) is not dict:
            raise EvidenceMalformed("payload", expected="a map", found=type(item).__name__)
        if missing := [key for key in _MANDATORY if key not in item]:
            raise EvidenceMalformed(missing[0], expected="a field of the document", found="none")
        if unknown := [key for key in item if key not in (*_MANDATORY, *_OPTIONAL)]:
            raise EvidenceMalformed("payload", expected="known fields only", found=ascii(unknown[0])[:80])
        if type(item["digest"]) is not str or item["digest"] != _DIGEST:
            raise EvidenceMalformed("digest", expected=_DIGEST, found=ascii(item["digest"])[:80])
        return cls(
            module_id=_text("module_id", item["module_id"]),
            timestamp_ms=_timestamp(item["timestamp"]),
            pcrs=_pcrs(item["pcrs"]),
            certificate=_bytes("certificate", item["certificate"], 1, MAXIMUM_CERTIFICATE_BYTES),
            cabundle=_cabundle(item["cabundle"]),
            **{name: _optional(item, name) for name in _OPTIONAL},
        )

    def encode(self) -> bytes:
        """A payload that `parse` reads back to equal values."""
        return cbor2.dumps(
            {
                "module_id": self.module_id,
                "digest": _DIGEST,
                "timestamp": self.timestamp_ms,
                "pcrs": dict(self.pcrs),
                "certificate": self.certificate,
                "cabundle": list(self.cabundle),
                "public_key": self.public_key,
                "user_data": self.user_data,
                "nonce": self.nonce,
            }
        )


def _text(field: str, value: object) -> str:
    if type(value) is not str or not 0 < len(value) <= 255 or not value.isascii() or not value.isprintable():
        raise EvidenceMalformed(field, expected="1 to 255 printable characters", found=ascii(value)[:80])
    return value


def _timestamp(value: object) -> int:
    if type(value) is not int or not 0 < value < _YEAR_10000_MS:
        raise EvidenceMalformed("timestamp", expected="milliseconds since 1970", found=ascii(value)[:80])
    return value


def _pcrs(value: object) -> dict[int, bytes]:
    if type(value) is not dict or not 1 <= len(value) <= len(PCRS):
        raise EvidenceMalformed("pcrs", expected=f"a map of 1 to {len(PCRS)} registers", found=type(value).__name__)
    for index in value:
        if type(index) is not int or index not in PCRS:
            raise EvidenceMalformed("pcrs", expected=f"indices 0 to {PCRS[-1]}", found=ascii(index)[:80])
    return {index: _bytes(f"pcr{index}", value[index], PCR_BYTES, PCR_BYTES) for index in sorted(value)}


def _cabundle(value: object) -> tuple[bytes, ...]:
    if type(value) is not list or not value:
        raise EvidenceMalformed("cabundle", expected="a list of certificates", found=type(value).__name__)
    return tuple(_bytes("cabundle", item, 1, MAXIMUM_CERTIFICATE_BYTES) for item in value)


def _optional(item: Mapping[object, object], name: str) -> bytes | None:
    value = item.get(name)
    return None if value is None else _bytes(name, value, *_OPTIONAL[name])


def _bytes(field: str, value: object, minimum: int, maximum: int) -> bytes:
    if type(value) is not bytes or not minimum <= len(value) <= maximum:
        size = f"{minimum}" if minimum == maximum else f"{minimum} to {maximum}"
        found = f"{len(value)}" if isinstance(value, bytes) else type(value).__name__
        raise EvidenceMalformed(field, expected=f"{size} bytes", found=found)
    return value
