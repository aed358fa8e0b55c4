"""A signed message: 64 bytes of Ed25519 signature, then the body's exact bytes."""

from protocol.errors import MalformedError, SignatureError
from protocol.keys import SIGNATURE_BYTES, SigningKey, VerifyingKey


def sign_message(key: SigningKey, label: str, body: bytes) -> bytes:
    """signature(64) ‖ body; the signature covers `labelled(label, body)`."""
    return key.sign(label, body) + body


def unverified_body(message: bytes) -> bytes:
    """The body before anything is verified: only to find out whose key to verify under."""
    if len(message) <= SIGNATURE_BYTES:
        raise MalformedError(f"signed message: expected over {SIGNATURE_BYTES} bytes, found {len(message)}")
    return message[SIGNATURE_BYTES:]


def open_message(key: VerifyingKey, label: str, message: bytes, what: str) -> bytes:
    """The body, once its signature verifies; raises `SignatureError` naming `what`, or `MalformedError`."""
    body = unverified_body(message)
    try:
        key.verify(message[:SIGNATURE_BYTES], label, body)
    except SignatureError as error:
        raise SignatureError(f"{what}: the signature is not by {key}") from error
    return body
