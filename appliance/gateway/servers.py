"""The two listening ports, with everything bounded that a peer could make large.

Two servers, because strangers may reach the first: what they hold up there holds up nobody in a session. Built by the
gateway's composition root.
"""

from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc

from appliance.gateway.enrolment_port import EnrolmentPort
from appliance.gateway.federation_port import FederationPort
from protocol.credentials import CredentialKey, pem_of
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import ENROLMENT_LIMIT_BYTES, FEDERATION_SERVICE, GATEWAY_NAME, MESSAGE_LIMIT_BYTES

_ENROLMENT_THREADS = 8
_ENROLMENT_CALLS = 64
_THREADS_A_SILO = 8
_SPARE_THREADS = 8


class PortTakenError(Exception):
    """A port can't be opened; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The gateway's only key, new at every start, and its self-signed certificate (DER)."""

    key: CredentialKey
    certificate: bytes

    @classmethod
    def create(cls, key: CredentialKey, now: int) -> "Certificate":
        return cls(key=key, certificate=key.gateway_certificate(GATEWAY_NAME, now))

    def pair(self) -> tuple[bytes, bytes]:
        """Private key and certificate chain, PEM, as gRPC takes them."""
        return self.key.private_pem(), pem_of(self.certificate)


class ClientAuthority:
    """The authority that client certificates must come from: the enclave's, which changes with its boot."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._authority = b""

    def change(self, authority_der: bytes) -> None:
        """From now on, handshakes ask for credentials by this authority. Open connections stay."""
        self._authority = authority_der

    def credentials(self) -> grpc.ServerCredentials:
        """Mutual TLS under the current authority; call after the first `change`."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._configuration, require_client_authentication=True
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([self._certificate.pair()], pem_of(self._authority))


def open_enrolment(address: str, port: EnrolmentPort, certificate: Certificate) -> tuple[grpc.Server, str]:
    """Start the enrolment server; returns it and where it listens. Raises `PortTakenError`."""
    server = grpc.server(
        futures.ThreadPoolExecutor(_ENROLMENT_THREADS),
        maximum_concurrent_rpcs=_ENROLMENT_CALLS,
        options=[
            *_options(ENROLMENT_LIMIT_BYTES),
            # A stranger who sends half a call keeps a thread for a minute and ten seconds.
            ("grpc.max_connection_age_ms", 60_000),
            ("grpc.max_connection_age_grace_ms", 10_000),
        ],
    )
    rpc.add_EnrolmentServicer_to_server(port, server)  # type: ignore[no-untyped-call]
    where = _listen(server, address, grpc.ssl_server_credentials([certificate.pair()]))
    server.start()
    return server, where


def open_federation(
    address: str, port: FederationPort, authority: ClientAuthority, silos: int
) -> tuple[grpc.Server, str]:
    """Start the federation server for that many silos; returns it and where it listens. Raises `PortTakenError`."""
    threads = _THREADS_A_SILO * silos + _SPARE_THREADS
    server = grpc.server(
        futures.ThreadPoolExecutor(threads),
        maximum_concurrent_rpcs=threads,
        options=_options(MESSAGE_LIMIT_BYTES),
    )
    rpc.add_FederationServicer_to_server(port, server)  # type: ignore[no-untyped-call]
    raw: dict[str, grpc.RpcMethodHandler[bytes, Any]] = {
        "Upload": grpc.stream_unary_rpc_method_handler(port.upload, response_serializer=pb.Reply.SerializeToString),
        "Download": grpc.unary_stream_rpc_method_handler(port.download),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(FEDERATION_SERVICE, raw),))
    where = _listen(server, address, authority.credentials())
    server.start()
    return server, where


def _options(limit_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limit_bytes),
        ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
        ("grpc.max_concurrent_streams", 16),
        ("grpc.so_reuseport", 0),
        # A silo that vanished without a word is noticed after half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _listen(server: grpc.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    try:
        number = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise PortTakenError(f"{address}: can't listen there; is another process using the port?") from error
    return f"{address.rpartition(':')[0]}:{number}"
