"""The key of one blob: 256 bits, used to write once, wrapped to whoever may read.

Segments are AES-256-GCM under the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the nonce is an
88-bit segment counter and a byte that marks the last segment, so that a segment can neither move nor be the end
where it isn't. A nonce is never used twice under a key because a key writes one blob, each segment of it once.
"""

from collections.abc import Callable
from threading import Lock

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.errors import SignatureError
from protocol.keys import SealingKey, SealingPublicKey, Secret
from protocol.sealing.bytes_io import Readable

CONTENT_KEY_BYTES = 32
TAG_BYTES = 16
WRAP_LABEL = "strongroom/wrap/v1"


class ContentKey(Secret):
    """AES-256-GCM with a key that seals one blob. Safe to use from several threads."""

    __slots__ = ("_cipher", "_lock", "_raw", "_written")

    def __init__(self, raw: bytes) -> None:
        """`raw`: 32 secret bytes."""
        if len(raw) != CONTENT_KEY_BYTES:
            raise ValueError(f"expected {CONTENT_KEY_BYTES} bytes, found {len(raw)}")
        self._raw = raw
        self._cipher = AESGCM(raw)
        self._lock = Lock()
        self._written = False

    @classmethod
    def fresh(cls, random_bytes: Callable[[int], bytes]) -> "ContentKey":
        """A new key from a cryptographic random source (`os.urandom` in production)."""
        return cls(random_bytes(CONTENT_KEY_BYTES))

    def raw(self) -> bytes:
        """The 32 secret bytes, to be stored sealed."""
        return self._raw

    def wrap(self, recipient: SealingPublicKey, label: str, *context: bytes) -> bytes:
        """The key sealed to a recipient; opens only under the same label and context."""
        return recipient.seal(self._raw, label, *context)

    @classmethod
    def unwrap(cls, wrapped: bytes, recipient: SealingKey, label: str, *context: bytes) -> "ContentKey":
        """Open a wrapped key; raises `SignatureError`."""
        raw = recipient.open(wrapped, label, *context)
        if len(raw) != CONTENT_KEY_BYTES:
            raise SignatureError(f"wrapped key: expected {CONTENT_KEY_BYTES} bytes, found {len(raw)}")
        return cls(raw)

    def claim_for_writing(self) -> None:
        """Mark the key as used by one writer; a second claim is a programming error (its nonces would repeat)."""
        with self._lock:
            if self._written:
                raise ValueError("this content key has sealed a blob already; sealing again takes a fresh key")
            self._written = True

    def seal_segment(self, counter: int, last: bool, plaintext: Readable, header_hash: bytes, out: memoryview) -> None:
        """Encrypt into `out`, which holds exactly the plaintext's length and a tag (the two may overlap)."""
        self._cipher.encrypt_into(_nonce(counter, last), plaintext, header_hash, out)

    def open_segment(self, counter: int, last: bool, sealed: Readable, header_hash: bytes, out: memoryview) -> None:
        """Decrypt into `out`, exactly the plaintext's length; wipes it and raises `SignatureError` on a wrong tag."""
        try:
            self._cipher.decrypt_into(_nonce(counter, last), sealed, header_hash, out)
        except InvalidTag as error:
            # decrypt_into leaves unauthenticated plaintext behind.
            out[:] = bytes(len(out))
            raise SignatureError(f"segment {counter}: does not open under this key, header and place") from error


def _nonce(counter: int, last: bool) -> bytes:
    return counter.to_bytes(11, "big") + (b"\x01" if last else b"\x00")
