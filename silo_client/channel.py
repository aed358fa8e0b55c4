"""What a silo needs from the network: a way to the appliance that may lose, delay, repeat or alter anything.

Nothing that comes through a channel is trusted: `SiloMachine` verifies every message, and a downloaded body is
authenticated before it is used. Over sockets it is `grpc_channel.GrpcChannel`; simulations and tests drive the same
machine over one in memory.
"""

from dataclasses import dataclass
from typing import Protocol

from audit.store import StoreSource
from protocol.credentials import CredentialKey
from protocol.errors import ProtocolError
from protocol.keys import Secret
from protocol.sealing import ByteSource


class ChannelLostError(ProtocolError):
    """The appliance can't be reached, or no longer knows this connection. Trying again may help; enrol again first."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credential(Secret):
    """What the federation port asks for: the certificate (DER) and its key. Times are unix seconds.

    `expires` is by the appliance's clock, `renew_at` (two thirds of its life) by the silo's own.
    """

    certificate: bytes
    key: CredentialKey
    expires: int
    renew_at: int


class Channel(Protocol):
    """One silo's way to one appliance.

    `hello` to `upload` raise `RefusedError` where the appliance refuses, and `ChannelLostError` where it can't be
    reached. `send` and `receive` belong to one thread at a time; `download` and `upload` may run beside them.
    """

    def hello(self, message: bytes) -> bytes:
        """`Hello` → `Welcome`, on the enrolment port."""
        ...

    def enrol(self, message: bytes) -> bytes:
        """`Enrol` → `Admitted`, on the enrolment port."""
        ...

    def connect(self, credential: Credential) -> None:
        """Open the session; replaces an open one."""
        ...

    def send(self, message: bytes) -> None:
        """One message of a silo (`protocol.session`)."""
        ...

    def receive(self, timeout_seconds: float | None) -> bytes | None:
        """The next message of the enclave, or None after the timeout (`None` waits for ever)."""
        ...

    def download(self, name: str, *, limit_bytes: int) -> ByteSource:
        """A sealed body, whole; of more than `limit_bytes` nothing is kept (`MalformedError`)."""
        ...

    def upload(self, upload_id: bytes, blob: StoreSource) -> bytes:
        """Send a sealed body from where the appliance stopped; returns its `UploadAccepted`.

        The channel takes `blob` over, and closes it once it needs it no more.
        """
        ...

    def close(self) -> None:
        """End the session. Other threads' calls end with `ChannelLostError`."""
        ...
