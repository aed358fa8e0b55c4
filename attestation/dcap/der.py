"""The few forms of DER (X.690) in Intel's certificate extension: nothing but definite, minimal lengths."""

from collections.abc import Iterator

from attestation.errors import EvidenceMalformed

BOOLEAN, INTEGER, OCTET_STRING, OBJECT_IDENTIFIER, ENUMERATED, SEQUENCE = 0x01, 0x02, 0x04, 0x06, 0x0A, 0x30


def elements(data: bytes, field: str) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element, one after another to the last byte; raises `EvidenceMalformed`."""
    offset = 0
    while offset < len(data):
        tag = data[offset]
        start, length = _length(data, offset + 1, field)
        if start + length > len(data):
            raise EvidenceMalformed(field, expected=f"{length} bytes of content", found=str(len(data) - start))
        yield tag, data[start : start + length]
        offset = start + length


def content(data: bytes, tag: int, field: str) -> bytes:
    """The content of the one element that `data` is."""
    found = list(elements(data, field))
    if len(found) != 1 or found[0][0] != tag:
        raise EvidenceMalformed(field, expected=f"one element of tag {tag:#04x}", found=data.hex()[:64])
    return found[0][1]


def unsigned(value: bytes, maximum: int, field: str) -> int:
    """The content of an INTEGER or ENUMERATED from 0 to `maximum`, in its shortest form."""
    number = int.from_bytes(value, "big")
    if not value or value[0] & 0x80 or (len(value) > 1 and number < 1 << (8 * len(value) - 9)) or number > maximum:
        raise EvidenceMalformed(field, expected=f"a DER integer from 0 to {maximum}", found=value.hex()[:64])
    return number


def boolean(value: bytes, field: str) -> bool:
    """The content of a BOOLEAN."""
    if value not in (b"\x00", b"\xff"):
        raise EvidenceMalformed(field, expected="a DER boolean", found=value.hex()[:64])
    return value == b"\xff"


def _length(data: bytes, offset: int, field: str) -> tuple[int, int]:
    """Where the content begins, and how long it is."""
    first = data[offset : offset + 1]
    if not first:
        raise EvidenceMalformed(field, expected="a length", found="the end")
    if first[0] < 0x80:
        return offset + 1, first[0]
    size = first[0] & 0x7F
    number = data[offset + 1 : offset + 1 + size]
    length = int.from_bytes(number, "big")
    if not 1 <= size <= 3 or len(number) != size or number[0] == 0 or length < 0x80:
        raise EvidenceMalformed(field, expected="a minimal, definite length", found=data[offset : offset + 4].hex())
    return offset + 1 + size, length
