"""CBOR as attestation documents use it: one item, no duplicate keys, no tags, nothing after it.

Trusts nothing. Maps and arrays may be of indefinite length: current documents are. Source: RFC 8949.
"""

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Final, NoReturn

import cbor2

from attestation.errors import EvidenceMalformed

MAXIMUM_BYTES: Final = 16 * 1024
_MAXIMUM_DEPTH = 8


class _NoTags(Mapping[int, Callable[..., object]]):
    """Answers for every tag, known to the library or not: it would read text of mails, dates, regular expressions."""

    def __getitem__(self, tag: int) -> Callable[..., object]:
        return _refuse

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def decode(data: bytes, field: str) -> object:
    """The one item in at most 16 KiB; raises `EvidenceMalformed` naming `field`."""
    if len(data) > MAXIMUM_BYTES:
        raise EvidenceMalformed(field, expected=f"at most {MAXIMUM_BYTES} bytes", found=str(len(data)))
    item, size = decode_first(data, field)
    if size != len(data):
        raise EvidenceMalformed(field, expected="nothing after the CBOR item", found=f"{len(data) - size} bytes")
    return item


def decode_first(data: bytes, field: str) -> tuple[object, int]:
    """The item at the start of at most 16 KiB, and its size in bytes; raises `EvidenceMalformed` naming `field`."""
    stream = BytesIO(data[:MAXIMUM_BYTES])
    decoder = cbor2.CBORDecoder(
        stream, semantic_decoders=_NoTags(), max_depth=_MAXIMUM_DEPTH, allow_duplicate_keys=False
    )
    try:
        return decoder.decode(), stream.tell()
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise EvidenceMalformed(
            field, expected="CBOR without tags and duplicate keys", found=ascii(str(error))[1:-1][:120]
        ) from error


def _refuse(*_: object) -> NoReturn:
    raise cbor2.CBORDecodeError("a tag")
