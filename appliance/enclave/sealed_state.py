"""The enclave's small sealed state: the log key and the content keys of the current bodies.

Everything else is in the log. A state is written, durable, before the entry that names it by digest; at a restart
the one that the newest such entry names is opened, and any other file is debris of a crash. Rolling it back alone
is therefore noticed here, and rolling it back together with the log is noticed by the silos.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from attestation.encoding import labelled
from audit.store import NotFound, Store
from protocol.errors import MalformedError
from protocol.keys import Secret
from protocol.record import Bytes, Digest, Record, Text

_LABEL = "strongroom/state/v1"
_NONCE_BYTES = 12


class StateError(Exception):
    """The sealed state that the log names is missing, was changed, or opens under another key only."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BodySecret(Record, Secret):
    """A sealed body in the store: its name, blob digest, content digest and content key."""

    name: Text
    digest: Digest
    content: Digest
    key: Bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EnclaveState(Record, Secret, kind="enclave-state"):
    """What the enclave must keep secret across a restart."""

    log_seed: Bytes
    model: BodySecret | None
    control: BodySecret | None


class StateVault:
    """Seals and opens states under HKDF(TEE's sealing key, agreement digest ‖ log origin)."""

    def __init__(
        self, *, store: Store, sealing_key: bytes, agreement: bytes, origin: str, random: Callable[[int], bytes]
    ) -> None:
        info = labelled(_LABEL, agreement, origin.encode())
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(sealing_key)
        self._cipher = AESGCM(key)
        self._store = store
        self._random = random

    def save(self, state: EnclaveState) -> bytes:
        """Write a state durably; returns the digest to log. A crash here leaves an unnamed file."""
        nonce = self._random(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, state.encode(), _LABEL.encode())
        digest = sha256(sealed).digest()
        self._store.write(_name(digest), sealed)
        return digest

    def load(self, digest: bytes) -> EnclaveState:
        """Open the state that an entry names; raises `StateError`."""
        try:
            sealed = self._store.read(_name(digest))
        except NotFound as error:
            raise StateError(
                f"sealed state {digest.hex()[:16]}…: the log names it, the store does not hold it"
            ) from error
        if sha256(sealed).digest() != digest:
            raise StateError(f"sealed state {digest.hex()[:16]}…: changed since the log named it")
        try:
            nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return EnclaveState.parse(self._cipher.decrypt(nonce, body, _LABEL.encode()))
        except (InvalidTag, MalformedError, ValueError) as error:
            raise StateError(
                f"sealed state {digest.hex()[:16]}…: sealed by another image, TCB, agreement or log than this one"
            ) from error

    def forget_all_but(self, keep: frozenset[bytes]) -> None:
        """Delete states that no entry needs any more."""
        for name in self._store.list("state/"):
            if name not in {_name(digest) for digest in keep}:
                self._store.delete(name)


def _name(digest: bytes) -> str:
    return f"state/{digest.hex()}.sealed"
