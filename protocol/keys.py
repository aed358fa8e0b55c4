"""Keys, by what they may do: sign labelled bytes (Ed25519), or open what was sealed to them (hybrid HPKE).

Private keys are redacted in `repr` and refuse to be pickled. Signatures cover `labelled(...)` bytes only; the log's
notes, whose format is public, have the one exception with an ugly name.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from attestation.encoding import labelled
from protocol.errors import MalformedError, SignatureError
from protocol.fields import decode_base64, encode_base64

SIGNATURE_BYTES = 64
VERIFYING_KEY_BYTES = 32
SEALING_PUBLIC_BYTES = 1184 + 32
SEALING_SEED_BYTES = 64 + 32
WRAP_OVERHEAD_BYTES = 1088 + 32 + 16
_PREFIX = "ed25519:"
_FIELD = 2**255 - 19
# The y coordinates of the eight points of small order, sign bit cleared: under such a "key" anybody can sign.
_SMALL_ORDER = frozenset(
    int.from_bytes(bytes.fromhex(text), "little")
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Secret:
    """Base of everything that must not be printed or serialised."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is a secret and is never pickled")


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """An Ed25519 public key (32 bytes, RFC 8032); `MalformedError` for one of small order or in another spelling."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != VERIFYING_KEY_BYTES:
            raise MalformedError(f"Ed25519 key: expected 32 bytes, found {len(self.raw)}")
        y = int.from_bytes(self.raw, "little") & (2**255 - 1)
        if y >= _FIELD or y in _SMALL_ORDER:
            raise MalformedError(f"Ed25519 key: expected a point of large order, found {self.raw.hex()}")

    @classmethod
    def parse(cls, text: str) -> "VerifyingKey":
        """Read `ed25519:<base64>`; raises `MalformedError`."""
        raw = decode_base64(text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else None
        if raw is None or len(raw) != VERIFYING_KEY_BYTES:
            raise MalformedError(f'key: expected "{_PREFIX}" and base64 of 32 bytes, found {text[:80]!r}')
        return cls(raw)

    def __str__(self) -> str:
        return _PREFIX + encode_base64(self.raw)

    def verify(self, signature: bytes, label: str, *fields: bytes) -> None:
        """Raise `SignatureError` unless `signature` (64 bytes) is this key's over `labelled(label, *fields)`."""
        self.verify_unlabelled_note(signature, labelled(label, *fields))

    def verify_unlabelled_note(self, signature: bytes, message: bytes) -> None:
        """Check a signature in a public format that brings its own domain separation (C2SP signed notes)."""
        try:
            _public(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise SignatureError(f"signature does not verify under {self}") from error


@lru_cache(maxsize=64)
def _public(raw: bytes) -> Ed25519PublicKey:
    """Whoever verifies a log does so under the same few keys a million times."""
    return Ed25519PublicKey.from_public_bytes(raw)


class SigningKey(Secret):
    """An Ed25519 private key."""

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        """`seed`: 32 random bytes."""
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = VerifyingKey(self._private.public_key().public_bytes_raw())

    def seed(self) -> bytes:
        """The 32 secret bytes, to be stored sealed or in the owner's own file."""
        return self._private.private_bytes_raw()

    def sign(self, label: str, *fields: bytes) -> bytes:
        """64-byte signature over `labelled(label, *fields)`."""
        return self._private.sign(labelled(label, *fields))

    def sign_unlabelled_note(self, message: bytes) -> bytes:
        """Sign in a public format that brings its own domain separation (C2SP signed notes)."""
        return self._private.sign(message)


@dataclass(frozen=True, slots=True)
class SealingPublicKey:
    """An ML-KEM-768+X25519 HPKE public key: 1,184 bytes of ML-KEM, then 32 of X25519."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != SEALING_PUBLIC_BYTES:
            raise MalformedError(f"sealing key: expected {SEALING_PUBLIC_BYTES} bytes, found {len(self.raw)}")

    def seal(self, plaintext: bytes, label: str, *context: bytes) -> bytes:
        """HPKE base mode (RFC 9180); `info` is `labelled(label, *context)`. Adds `WRAP_OVERHEAD_BYTES`.

        Raises `MalformedError` if the key is not one (a low-order X25519 point, say).
        """
        try:
            public = hpke.MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.raw[:1184]),
                X25519PublicKey.from_public_bytes(self.raw[1184:]),
            )
            return _SUITE.encrypt(plaintext, public, info=labelled(label, *context))
        except ValueError as error:
            raise MalformedError("sealing key: not a valid ML-KEM-768+X25519 public key") from error


class SealingKey(Secret):
    """An ML-KEM-768+X25519 HPKE private key; lives in memory only."""

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        """`seed`: 96 random bytes (64 for ML-KEM, 32 for X25519)."""
        if len(seed) != SEALING_SEED_BYTES:
            raise ValueError(f"expected {SEALING_SEED_BYTES} bytes, found {len(seed)}")
        mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:64])
        x25519 = X25519PrivateKey.from_private_bytes(seed[64:])
        self._private = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = SealingPublicKey(mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw())

    def open(self, wrapped: bytes, label: str, *context: bytes) -> bytes:
        """Open what was sealed to this key under the same label and context; raises `SignatureError`."""
        try:
            return _SUITE.decrypt(wrapped, self._private, info=labelled(label, *context))
        except (InvalidTag, ValueError) as error:
            raise SignatureError(
                "sealed bytes do not open: another key, other context, or changed on the way"
            ) from error
