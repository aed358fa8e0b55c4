"""The two listening ports, with everything bounded that a peer could make large.

Two servers, because strangers may reach the first: what they hold up there holds up nobody in a session. Built by the
gateway's composition root.
"""

import time
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc

from appliance.gateway.enrolment_port import EnrolmentPort
from appliance.gateway.federation_port import CALLS_A_SILO, FederationPort
from protocol.credentials import CredentialKey, pem_of
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import (
    BULK_MESSAGE_BYTES,
    ENROLMENT_LIMIT_BYTES,
    FEDERATION_SERVICE,
    GATEWAY_NAME,
    MESSAGE_LIMIT_BYTES,
)

_ENROLMENT_THREADS = 8
_ENROLMENT_CALLS = 64
_SPARE_THREADS = 8
_GRACE_SECONDS = 2.0


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


class FederationServer:
    """The federation port, where clients show a credential by the enclave's authority.

    That authority is another one after every boot of the enclave. The server is then replaced, on the same port, and
    its connections end. gRPC's own way to change it (`dynamic_ssl_server_credentials`) frees memory that concurrent
    handshakes still use, and so ends the process (grpc/grpc#36693; docs/decisions/0018-federation-server-replaced.md).
    """

    def __init__(self, address: str, port: FederationPort, certificate: Certificate, silos: int) -> None:
        """`address`: host and port, 0 for a free one, which is then kept. `silos`: how many there may be."""
        self.address = address
        self._port = port
        self._certificate = certificate
        self._threads = CALLS_A_SILO * silos + _SPARE_THREADS
        self._authority = b""
        self._server: grpc.Server | None = None
        self._pool: futures.ThreadPoolExecutor | None = None

    def serve(self, authority_der: bytes) -> None:
        """Ask for credentials by this authority from now on; raises `PortTakenError`."""
        if authority_der == self._authority:
            return
        self.stop(grace_seconds=0)
        pool = futures.ThreadPoolExecutor(self._threads)
        server = grpc.server(pool, maximum_concurrent_rpcs=self._threads, options=_options(MESSAGE_LIMIT_BYTES))
        port = self._port
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Session": grpc.stream_stream_rpc_method_handler(
                port.session, pb.Message.FromString, pb.Reply.SerializeToString
            ),
            "UploadStatus": grpc.stream_unary_rpc_method_handler(
                port.upload_status, pb.UploadId.FromString, pb.UploadOffset.SerializeToString
            ),
            "Upload": grpc.stream_unary_rpc_method_handler(port.upload, response_serializer=pb.Reply.SerializeToString),
            "Download": grpc.stream_stream_rpc_method_handler(port.download),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(FEDERATION_SERVICE, methods),))
        credentials = grpc.ssl_server_credentials(
            [self._certificate.pair()], pem_of(authority_der), require_client_auth=True
        )
        self.address = _listen_again(server, self.address, credentials)
        server.start()
        self._server, self._pool, self._authority = server, pool, authority_der

    def stop(self, grace_seconds: float) -> None:
        """End all connections, after a moment for what is under way."""
        if self._server is not None and self._pool is not None:
            self._server.stop(grace_seconds).wait(grace_seconds + _GRACE_SECONDS)
            self._pool.shutdown(wait=False)
        self._server, self._pool, self._authority = None, None, b""


def _options(limit_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limit_bytes),
        ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
        ("grpc.max_concurrent_streams", 16),
        ("grpc.so_reuseport", 0),
        # The window of a stream would otherwise grow to many messages, and with it the memory of every upload.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 2 * BULK_MESSAGE_BYTES),
        # A silo that vanished without a word is noticed after half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]


def _listen(server: grpc.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    try:
        number = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise PortTakenError(f"{address}: can't listen there; is another process using the port?") from error
    return f"{address.rpartition(':')[0]}:{number}"


def _listen_again(server: grpc.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    """Listen where a server that was just stopped may not have let go yet."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while True:
        try:
            return _listen(server, address, credentials)
        except PortTakenError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
