"""A silo's identity key: the one long-lived secret that it has, in a file that only its owner reads.

    strongroom-identity-key/1
    <base64 of the 32-byte Ed25519 seed>

Whoever has the file is the silo, as far as an agreement without a TEE can tell. It is made once (`strongroom silo
init`), never overwritten, and refused if others may read it.
"""

import os
import stat
from pathlib import Path

from audit.store import sync_folder
from protocol.errors import ProtocolError
from protocol.fields import decode_base64, encode_base64
from protocol.keys import SigningKey

HEADER = "strongroom-identity-key/1"
_LIMIT_BYTES = 256


class IdentityError(ProtocolError):
    """The identity key's file can't be made or used; the message says which and why."""


def create_identity(path: Path, seed: bytes) -> SigningKey:
    """Write a new key file (mode 0600) from 32 random bytes; raises `IdentityError` if the file exists."""
    key = SigningKey(seed)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise IdentityError(
            f"{path}: expected no such file, found one; an identity key is never overwritten"
        ) from error
    except OSError as error:
        raise IdentityError(f"{path}: the identity key can't be written: {error.strerror}") from error
    try:
        with open(descriptor, "wb") as stream:
            # Whatever the umask: nobody else reads it.
            os.fchmod(descriptor, 0o600)
            stream.write(encode_identity(key))
            stream.flush()
            os.fsync(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        # Half a key would be in the way of the next one.
        path.unlink(missing_ok=True)
        raise IdentityError(f"{path}: the identity key can't be written: {error.strerror}") from error
    return key


def read_identity(path: Path) -> SigningKey:
    """Read a key file; raises `IdentityError` if it is no such file or others than its owner may read it."""
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise IdentityError(f"{path}: expected an identity key, found an error: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise IdentityError(
            f"{path}: expected a file that only its owner reads, found mode {stat.S_IMODE(mode):04o}; "
            f"`chmod 600 {path}`"
        )
    key = parse_identity(data)
    if key is None:
        raise IdentityError(f'{path}: expected "{HEADER}" and a line of base64 of 32 bytes, found something else')
    return key


def encode_identity(key: SigningKey) -> bytes:
    """The file's bytes."""
    return f"{HEADER}\n{encode_base64(key.seed())}\n".encode("ascii")


def parse_identity(data: bytes) -> SigningKey | None:
    """The key in a file's bytes, or None if they are not exactly what `encode_identity` writes."""
    try:
        header, seed_line, end = data.decode("ascii").split("\n")
    except ValueError:  # Not ASCII, or not two lines.
        return None
    seed = decode_base64(seed_line)
    if header != HEADER or end or seed is None or len(seed) != 32:
        return None
    return SigningKey(seed)
