"""Labelled, length-prefixed bytes: the only thing that is ever signed, hashed or bound.

`hash(a ‖ b)` without labels and lengths lets two different inputs collide; every signature, digest and
`report_data` in this project goes through `labelled` instead.
"""

from hashlib import sha256


def labelled(label: str, *fields: bytes) -> bytes:
    """Encode a label and its fields so that no two different inputs share an encoding.

    Returns u32be length ‖ label, u32be number of fields, then u32be length ‖ field for each.
    """
    parts = [_prefixed(label.encode()), len(fields).to_bytes(4, "big")]
    parts += [_prefixed(field) for field in fields]
    return b"".join(parts)


def labelled_digest(label: str, *fields: bytes) -> bytes:
    """SHA-256 (32 bytes) over `labelled(label, *fields)`."""
    return sha256(labelled(label, *fields)).digest()


def _prefixed(field: bytes) -> bytes:
    return len(field).to_bytes(4, "big") + field
