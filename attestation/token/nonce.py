"""How a token commits to report data that is longer than its nonce may be.

Google takes nonces of 10 to 74 bytes, and hardware's report data has 64: so a token carries a digest of it in text.
Called by whoever asks a service for a token, and by whoever appraises one.
"""

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest

import rfc8785

from attestation.checklist import Checklist
from attestation.encoding import labelled_digest
from attestation.report_data import REPORT_DATA_BYTES
from attestation.token.jws import encode_base64url


def token_nonce(report_data: bytes) -> str:
    """The nonce to ask a token for: SHA-256 over the labelled report data, in base64url (43 characters)."""
    return encode_base64url(labelled_digest("strongroom/token-nonce/v1", report_data)).decode("ascii")


def runtime_data(report_data: bytes) -> bytes:
    """What to give Azure's sidecar for a token: JSON, as its service takes nothing else, with our nonce in it.

    The sidecar has the hardware commit to its SHA-256, in the first 32 of 64 bytes.
    """
    return rfc8785.dumps({"nonce": token_nonce(report_data)})


def require_nonce(checks: Checklist, number: int, report_data: bytes | None, nonces: Sequence[bytes]) -> None:
    """One of a token's nonces is ours for `report_data`; or, in others' tokens, is it, as it stands or in hexadecimal.

    Or it is the report data of hardware that commits to our nonce as `runtime_data`. None compares nothing, and the
    line says so. The two other spellings let anybody check a token whose nonce he chose himself; for report data that
    is a digest they open nothing, as a nonce that is read in two ways would take an inverse of the digest.
    """
    found = ", ".join(in_words(nonce) for nonce in nonces) or "no nonce"
    if report_data is None:
        checks.passed(number, "report_data", "anything: nothing was given to compare it with", found)
        return
    expected = (
        token_nonce(report_data).encode("ascii"),
        report_data,
        report_data.hex().encode("ascii"),
        sha256(runtime_data(report_data)).digest().ljust(REPORT_DATA_BYTES, b"\0"),
    )
    matches = [compare_digest(nonce, accepted) for nonce in nonces for accepted in expected]
    checks.require(
        any(matches) and any(report_data),
        number,
        "report_data",
        f"the nonce {expected[0].decode('ascii')} for {report_data.hex()}" if any(report_data) else "a commitment",
        found,
    )


def in_words(nonce: bytes) -> str:
    """Text where it is printable ASCII, which digests are not; else hexadecimal."""
    return nonce.decode("ascii") if nonce.isascii() and nonce.decode("ascii").isprintable() else nonce.hex()
