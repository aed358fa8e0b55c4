"""Services that exchange what the hardware says for a signed token: Google's launcher, Azure's sidecar.

Confidential Space: its launcher serves `POST /v1/token` on a unix socket in the container (google/go-tpm-tools,
launcher/teeserver). Azure: the container group's sidecar serves `POST /attest/maa` on the loopback interface
(microsoft/confidential-sidecar-containers, cmd/skr). Neither is told anything secret.
"""

import base64
import json
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from attestation.collect.errors import CollectionFailed
from attestation.collect.http import LocalService, Response

LAUNCHER_PATH: Final = "/v1/token"
SIDECAR_PATH: Final = "/attest/maa"
SHORTEST_NONCE_BYTES: Final = 10
LONGEST_NONCE_BYTES: Final = 74
MAXIMUM_NONCES: Final = 6
_JWT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SHOWN = 200


class TokenType(StrEnum):
    """How a Confidential Space token is signed: under Google's pinned root (x5c), or by a key of its issuer's JWKS."""

    PKI = "PKI"
    OIDC = "OIDC"


def confidential_space_token(
    launcher: LocalService, *, audience: str, nonces: Sequence[str], token_type: TokenType
) -> bytes:
    """A compact JWT in ASCII for that audience with all of these nonces; raises `CollectionFailed`.

    Nonces: 1 to 6, 10 to 74 bytes each (the attestation service refuses others).
    """
    if not 1 <= len(nonces) <= MAXIMUM_NONCES:
        raise ValueError(f"nonces: expected 1 to {MAXIMUM_NONCES}, found {len(nonces)}")
    for nonce in nonces:
        if not SHORTEST_NONCE_BYTES <= len(nonce.encode()) <= LONGEST_NONCE_BYTES:
            raise ValueError(f"nonce: expected {SHORTEST_NONCE_BYTES} to {LONGEST_NONCE_BYTES} bytes, found {nonce!r}")
    request = {"audience": audience, "token_type": token_type.value, "nonces": list(nonces)}
    answer = launcher.post(LAUNCHER_PATH, json.dumps(request).encode())
    _require_ok(answer, launcher.name)
    return _jwt(answer.body.strip(), launcher.name)


def azure_token(sidecar: LocalService, *, maa_host: str, runtime_data: bytes) -> bytes:
    """A compact JWT in ASCII by the attestation service at that host; raises `CollectionFailed`.

    `runtime_data` is JSON: its SHA-256 is in the hardware's report data, and the token repeats it as `x-ms-runtime`.
    """
    request = {"maa_endpoint": maa_host, "runtime_data": base64.b64encode(runtime_data).decode("ascii")}
    answer = sidecar.post(SIDECAR_PATH, json.dumps(request).encode())
    _require_ok(answer, sidecar.name)
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise CollectionFailed(f"{sidecar.name}: expected JSON, found something else") from error
    token = body.get("token") if isinstance(body, dict) else None
    if not isinstance(token, str):
        raise CollectionFailed(f"{sidecar.name}: expected a token, found none")
    return _jwt(token.encode(), sidecar.name)


def _require_ok(answer: Response, name: str) -> None:
    if answer.status != 200:
        said = ascii(answer.body[:_SHOWN].decode("utf-8", "replace"))
        raise CollectionFailed(f"{name}: expected a token, found status {answer.status}: {said}")


def _jwt(token: bytes, name: str) -> bytes:
    if not _JWT.fullmatch(token):
        raise CollectionFailed(f"{name}: expected a compact JWT, found {token[:40]!a}")
    return token
