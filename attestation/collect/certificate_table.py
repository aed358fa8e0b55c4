"""The table of certificates that a host hands to its guests (GHCB, AMD 56421, section 4.1.8.1). Untrusted.

Entries of a GUID, an offset and a length, up to one of zeros; then the certificates in DER. Only the leaf is taken from
it: the verifying side has AMD's upper certificates, and some hosts' are malformed.
"""

import struct
import uuid
from typing import Final

VCEK: Final = uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK: Final = uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK: Final = uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
ENTRY: Final = struct.Struct("<16sII")
_END = bytes(ENTRY.size)


def leaf_certificates(table: bytes) -> tuple[bytes, ...]:
    """The first VCEK and the first VLEK certificate in a table; none where it is empty or nonsense.

    A host can leave them out anyway: what is missing or wrong, the verifying side will say.
    """
    leaves: dict[uuid.UUID, bytes] = {}
    for start in range(0, len(table) - ENTRY.size + 1, ENTRY.size):
        entry = table[start : start + ENTRY.size]
        if entry == _END:
            break
        guid, offset, length = ENTRY.unpack(entry)
        certificate = table[offset : offset + length]
        kind = uuid.UUID(bytes_le=guid)
        if kind in (VCEK, VLEK) and length and len(certificate) == length:
            leaves.setdefault(kind, certificate)
    return tuple(leaves.values())
