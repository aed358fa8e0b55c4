"""The signature types of C2SP signed notes: what a key of each is, its id, and what its signatures cover.

    0x01  Ed25519 over the note's text                     ours: the log signs with it
    0x04  Ed25519 cosignature/v1, over time and text       ours: silos and witnesses cosign with it
    0x06  ML-DSA-44 cosignature (subtree/v1), over the cosigner's name, time, origin and tree head: witnesses may
    0x02  ECDSA over the note's text                       other logs: Rekor
    0x05  RFC 6962 TreeHeadSignature                       other logs: static CT (Sunlight)

Pure. Decides nothing about who may sign: a log's key is of type 0x01 (`VerifierKey.of_log`), and a quorum takes
cosignatures only, so that a key of another log's type signs nothing of ours. Called by `audit.note`.
"""

from enum import IntEnum
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from audit.checkpoint_text import CheckpointText
from protocol.errors import MalformedError, SignatureError
from protocol.keys import SIGNATURE_BYTES, VerifyingKey
from protocol.verifier_keys import KEY_ID_BYTES, named_key_id

MAXIMUM_TIME = 2**63 - 1
MLDSA_KEY_BYTES = 1312
MLDSA_SIGNATURE_BYTES = 2420
_TIME_BYTES = 8
_MINIMUM_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# RFC 5246 §7.4.1.4.1: SHA-256 with RSA, and with ECDSA.
_TLS_RSA, _TLS_ECDSA = b"\x04\x01", b"\x04\x03"


class SignatureType(IntEnum):
    """The assigned types that we check; a signature of any other type is one by an unknown key."""

    ED25519 = 0x01
    ECDSA = 0x02
    COSIGNATURE = 0x04
    TREE_HEAD = 0x05
    MLDSA_COSIGNATURE = 0x06


COSIGNATURES = frozenset({SignatureType.COSIGNATURE, SignatureType.MLDSA_COSIGNATURE})


@lru_cache(maxsize=256)
def key_id(kind: SignatureType, name: str, public: bytes) -> bytes:
    """SHA-256(name ‖ 0x0A ‖ type ‖ public key)[:4]: tells keys apart, binds nothing.

    Of type 0x02 it is SHA-256(public key)[:4]; of type 0x05 the log's id (SHA-256 of its key) stands for the key.
    """
    if kind == SignatureType.ECDSA:
        return sha256(public).digest()[:KEY_ID_BYTES]
    named = sha256(public).digest() if kind == SignatureType.TREE_HEAD else public
    return named_key_id(name, bytes([kind]) + named)


def check_key(kind: SignatureType, public: bytes) -> None:
    """Raise `MalformedError` unless these are the bytes of a key of that type (types 0x02 and 0x05: DER SPKI)."""
    if kind == SignatureType.MLDSA_COSIGNATURE:
        if len(public) != MLDSA_KEY_BYTES:
            raise MalformedError(f"verifier key: expected {MLDSA_KEY_BYTES} key bytes, found {len(public)}")
    elif kind in (SignatureType.ED25519, SignatureType.COSIGNATURE):
        VerifyingKey(public)
    else:
        _spki(kind, public)


def verify(kind: SignatureType, *, name: str, public: bytes, payload: bytes, text: bytes) -> int | None:
    """Check a signature (what follows the key id) over a note's text.

    Returns the unix time that a cosignature states, else None. Raises `SignatureError`.
    """
    match kind:
        case SignatureType.ED25519:
            VerifyingKey(public).verify_unlabelled_note(_sized(name, payload, SIGNATURE_BYTES), text)
            return None
        case SignatureType.ECDSA:
            _verify_spki(kind, name, public, payload, text)
            return None
        case SignatureType.COSIGNATURE:
            time = _time(name, payload, SIGNATURE_BYTES)
            VerifyingKey(public).verify_unlabelled_note(payload[_TIME_BYTES:], cosigned_message(time, text))
            return time
        case SignatureType.TREE_HEAD:
            _verify_tree_head(name, public, payload, text)
            return None
        case SignatureType.MLDSA_COSIGNATURE:
            time = _time(name, payload, MLDSA_SIGNATURE_BYTES)
            verify_mldsa(name, public, payload[_TIME_BYTES:], subtree_message(name, time, _checkpoint(text)))
            return time


def cosigned_message(time: int, text: bytes) -> bytes:
    """What a cosignature/v1 signs (type 0x04)."""
    return f"cosignature/v1\ntime {time}\n".encode() + text


def subtree_message(name: str, time: int, checkpoint: CheckpointText) -> bytes:
    """What an ML-DSA cosignature of a checkpoint signs (type 0x06): start 0, and no word of its extension lines."""
    return b"".join(
        (
            b"subtree/v1\n\0",
            _short(name),
            time.to_bytes(8, "big"),
            _short(checkpoint.origin),
            bytes(8),
            checkpoint.head.size.to_bytes(8, "big"),
            checkpoint.head.root,
        )
    )


def verify_mldsa(name: str, public: bytes, signature: bytes, message: bytes) -> None:
    """Check an ML-DSA-44 signature (FIPS 204, pure, no context); raises `SignatureError`."""
    try:
        MLDSA44PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"signature does not verify under the ML-DSA-44 key {name}") from error


def _verify_tree_head(name: str, public: bytes, payload: bytes, text: bytes) -> None:
    """RFC 6962 §3.5 in the wrapping of static-ct-api: u64 milliseconds, then a TLS digitally-signed struct.

    It covers time, size and root hash only: the origin is right because the key's name is, and there are no extensions.
    """
    checkpoint = _checkpoint(text)
    if checkpoint.origin != name or checkpoint.extensions:
        raise SignatureError(f"checkpoint: expected the origin {name} and no extension lines, which 0x05 does not sign")
    time, scheme, length, signature = payload[:8], payload[8:10], payload[10:12], payload[12:]
    key = _spki(SignatureType.TREE_HEAD, public)
    expected = _TLS_RSA if isinstance(key, rsa.RSAPublicKey) else _TLS_ECDSA
    if scheme != expected or not signature or length != len(signature).to_bytes(2, "big"):
        raise SignatureError(f"signature by {name}: expected a time and a digitally-signed struct, found other bytes")
    head = checkpoint.head
    # Version v1 and signature type tree_hash.
    message = b"\x00\x01" + time + head.size.to_bytes(8, "big") + head.root
    _verify_spki(SignatureType.TREE_HEAD, name, public, signature, message)


def _verify_spki(kind: SignatureType, name: str, public: bytes, signature: bytes, message: bytes) -> None:
    key = _spki(kind, public)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), SHA256())
        else:
            key.verify(signature, message, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"signature does not verify under the key {name}") from error


def _spki(kind: SignatureType, public: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The key in a DER SubjectPublicKeyInfo: RFC 6962 allows P-256 and RSA, type 0x02 three curves."""
    try:
        key = load_der_public_key(public)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("verifier key: expected a public key in DER") from error
    if isinstance(key, ec.EllipticCurvePublicKey):
        curves = _CURVES[:1] if kind == SignatureType.TREE_HEAD else _CURVES
        if isinstance(key.curve, curves):
            return key
    elif isinstance(key, rsa.RSAPublicKey) and kind == SignatureType.TREE_HEAD and key.key_size >= _MINIMUM_RSA_BITS:
        return key
    raise MalformedError(f"verifier key: expected a key that type 0x{kind:02x} allows, found another")


def _checkpoint(text: bytes) -> CheckpointText:
    try:
        return CheckpointText.parse(text)
    except MalformedError as error:
        raise SignatureError(f"signature: expected a checkpoint's text under it: {error}") from error


def _time(name: str, payload: bytes, signature_bytes: int) -> int:
    time = int.from_bytes(_sized(name, payload, _TIME_BYTES + signature_bytes)[:_TIME_BYTES], "big")
    # C2SP lets type 0x06 say 0: no statement that the tree is the newest one seen. Such a vote would be none.
    if not 0 < time <= MAXIMUM_TIME:
        raise SignatureError(f"cosignature by {name}: expected a time from 1 to 2^63-1, found {time}")
    return time


def _sized(name: str, payload: bytes, size: int) -> bytes:
    if len(payload) != size:
        raise SignatureError(f"signature by {name}: expected {size} bytes, found {len(payload)}")
    return payload


def _short(text: str) -> bytes:
    """`opaque<1..2^8-1>` of RFC 8446 §3.4."""
    data = text.encode()
    return bytes([len(data)]) + data
