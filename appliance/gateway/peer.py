"""Who is at the other end of a federation connection, as far as TLS can tell.

The handshake has verified the client's certificate under the enclave's authority; here its SPIFFE ID becomes a silo's
name. gRPC offers no minimum TLS version, so a lower one is refused here, in words (`RefusedError`).
"""

from collections.abc import Mapping

from protocol.credentials import silo_of
from protocol.errors import RefusalCode, refuse

_TLS_VERSION = "TLSv1.3"


def check_tls(auth_context: Mapping[str, object]) -> None:
    """Raise `RefusedError` (tls-version) unless the connection is TLS 1.3; `auth_context` is gRPC's."""
    found = _values(auth_context, "ssl_tls_version")
    if found != [_TLS_VERSION]:
        raise refuse(
            RefusalCode.TLS_VERSION,
            expected=_TLS_VERSION,
            found=", ".join(found) or "no TLS",
            remedy="connect with TLS 1.3",
        )


def silo_at(auth_context: Mapping[str, object], domain: str) -> str:
    """The silo that the client certificate names in this trust domain; raises `RefusedError`."""
    check_tls(auth_context)
    found = _values(auth_context, "peer_spiffe_id")
    silo = silo_of(found[0], domain) if len(found) == 1 else None
    if silo is None:
        raise refuse(
            RefusalCode.NOT_ADMITTED,
            expected=f"a credential for spiffe://{domain}/silo/<name>",
            found=", ".join(found)[:200] or "a certificate without SPIFFE ID",
            remedy="enrol, and connect with the credential that the enclave issued",
        )
    return silo


def _values(auth_context: Mapping[str, object], key: str) -> list[str]:
    """A property's values; gRPC gives each as a sequence of bytes (its type stubs say otherwise)."""
    values = auth_context.get(key, ())
    if not isinstance(values, list | tuple):
        return []
    return [value.decode("utf-8", "replace") for value in values if isinstance(value, bytes)]
