"""Verifier keys of signed notes as text (C2SP signed-note): `<name>+<key id>+<base64(type ‖ public key)>`.

The agreement names its log's witnesses by them, and `audit.note` verifies with them. Pure; trusts nothing in the text.
"""

import re
from hashlib import sha256

from protocol.errors import MalformedError
from protocol.fields import decode_base64, encode_base64
from protocol.keys import VerifyingKey

MAXIMUM_NAME_BYTES = 255
KEY_ID_BYTES = 4
_COSIGNATURE = 0x04
_SPACE_OR_CONTROL = re.compile(r"[\s\x00-\x1f+]")
_KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)


def key_name(name: str) -> str:
    """A key's name: not empty, at most 255 bytes of UTF-8, no Unicode space, control character or plus.

    Raises `MalformedError`.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise MalformedError("key name: expected UTF-8") from error
    if not 0 < size <= MAXIMUM_NAME_BYTES or _SPACE_OR_CONTROL.search(name):
        raise MalformedError(f"key name: expected no space, control character or plus, found {name[:80]!r}")
    return name


def named_key_id(name: str, typed_key: bytes) -> bytes:
    """SHA-256(name ‖ 0x0A ‖ type ‖ public key)[:4]: tells keys apart, binds nothing."""
    return sha256(name.encode() + b"\n" + typed_key).digest()[:KEY_ID_BYTES]


def join_verifier_key(name: str, key_id: bytes, typed_key: bytes) -> str:
    """The text of a key; `typed_key` is its type byte and its public bytes."""
    return f"{name}+{key_id.hex()}+{encode_base64(typed_key)}"


def split_verifier_key(text: str) -> tuple[str, bytes, bytes]:
    """Name, key id and typed key (one byte or more), none of them checked; raises `MalformedError`."""
    name, *rest = text.split("+", 2)
    typed_key = decode_base64(rest[1]) if len(rest) == 2 and _KEY_ID.fullmatch(rest[0]) else None
    if not typed_key:
        raise MalformedError(f"verifier key: expected <name>+<8 hex digits>+<base64>, found {text[:120]!r}")
    return name, bytes.fromhex(rest[0]), typed_key


def require_key_id(expected: bytes, found: bytes) -> None:
    """Raise `MalformedError` where a text names its key by another key's id."""
    if found != expected:
        raise MalformedError(f"verifier key: expected key id {expected.hex()}, found {found.hex()}")


def encode_cosigner_key(name: str, key: VerifyingKey) -> str:
    """The text of a key that makes cosignatures (cosignature/v1, type 0x04)."""
    typed_key = bytes([_COSIGNATURE]) + key.raw
    return join_verifier_key(name, named_key_id(name, typed_key), typed_key)


def decode_cosigner_key(text: str) -> tuple[str, VerifyingKey]:
    """Name and key of type 0x04; raises `MalformedError` for any other."""
    name, key_id, typed_key = split_verifier_key(text)
    if typed_key[0] != _COSIGNATURE:
        raise MalformedError(f"verifier key: expected type 0x04, found 0x{typed_key[0]:02x}")
    require_key_id(named_key_id(key_name(name), typed_key), key_id)
    return name, VerifyingKey(typed_key[1:])
