"""The federation port: sessions, uploads and downloads of silos that the enclave has admitted.

The client certificate, by the enclave's authority, says which silo it is; the enclave checks every object again. All
bytes that pass here are sealed or signed. A stream holds one message in memory at a time, beside what gRPC buffers.

Every method takes its requests as a stream, also those that the protocol says have one: gRPC begins a unary method in a
thread that waits for the request, before anybody could ask whose it is, and a silo that sends none would keep it.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import grpc

from appliance.gateway.bodies import Bodies
from appliance.gateway.enrolment_port import ENCLAVE_AWAY
from appliance.gateway.link import EnclaveAwayError, EnclaveLink
from appliance.gateway.peer import silo_at
from appliance.gateway.places import Places
from appliance.gateway.sessions import ENCLAVE_LOST, Sessions, SiloSession
from appliance.gateway.spool import Spool
from appliance.gateway.turns import Turns
from protocol.errors import MalformedError, RefusalCode, RefusedError, refuse
from protocol.wire import strongroom_pb2 as pb
from protocol.wire.methods import (
    OFFSET_METADATA,
    REFUSAL_METADATA,
    SIZE_METADATA,
    UPLOAD_ID_METADATA,
    DownloadRequest,
    refusal_to_wire,
)

CALLS_A_SILO = 8
"""A session and one that it replaces, an upload, its status, four downloads: more is nobody's honest need."""
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_CUT = "the call was cut"
_Request = TypeVar("_Request")


class FederationPort:
    """The handlers. `domain`: the agreement's SPIFFE trust domain."""

    def __init__(self, *, link: EnclaveLink, spool: Spool, bodies: Bodies, domain: str) -> None:
        self._link = link
        self._spool = spool
        self._bodies = bodies
        self._domain = domain
        self.sessions = Sessions(link.left)
        self.turns = Turns()
        self._places = Places(CALLS_A_SILO, "calls")

    def enclave_lost(self) -> None:
        """End what the enclave's loss has made void: all sessions, and uploads that nobody could open any more."""
        self.sessions.end_all(ENCLAVE_LOST)
        self.turns.end_all()

    @contextmanager
    def _caller(self, context: grpc.ServicerContext) -> Iterator[str]:
        """Whose call it is; raises `RefusedError` for nobody's, and for one call too many."""
        silo = silo_at(context.auth_context(), self._domain)
        with self._places.take(silo):
            yield silo

    # Sessions

    def session(self, request_iterator: Iterator[pb.Message], context: grpc.ServicerContext) -> Iterator[pb.Reply]:
        """A silo's messages to the enclave and back, until either side ends it. A refusal is the last message."""
        try:
            with self._caller(context) as silo:
                yield from self._session(silo, request_iterator, context)
        except RefusedError as error:
            yield pb.Reply(refusal=refusal_to_wire(error.refusal))

    def _session(
        self, silo: str, request_iterator: Iterator[pb.Message], context: grpc.ServicerContext
    ) -> Iterator[pb.Reply]:
        if not self._link.connected:
            context.abort(grpc.StatusCode.UNAVAILABLE, ENCLAVE_AWAY)
        session = self.sessions.begin(silo)
        try:
            if not context.add_callback(session.end):
                return
            reader = threading.Thread(target=self._read, args=(session, request_iterator), daemon=True)
            reader.start()
            for message in session.messages():
                yield pb.Reply(message=message)
            if session.refusal is not None:
                yield pb.Reply(refusal=session.refusal)
        finally:
            self.sessions.finish(session)

    def _read(self, session: SiloSession, messages: Iterator[pb.Message]) -> None:
        """Pass a silo's messages on, one after another; in a thread of the session's own."""
        try:
            for message in messages:
                self.sessions.relay(session, partial(self._relay, session, message.message))
        except EnclaveAwayError:
            session.end(ENCLAVE_LOST)
        except grpc.RpcError:
            session.end()  # The silo's connection is gone.
        else:
            session.end()

    def _relay(self, session: SiloSession, message: bytes) -> None:
        reply = self._link.receive(session.silo, message)
        if reply.WhichOneof("result") == "refusal":
            session.end(reply.refusal)

    # Uploads

    def upload_status(self, request_iterator: Iterator[pb.UploadId], context: grpc.ServicerContext) -> pb.UploadOffset:
        """How far an upload has come; ends one that is running."""
        try:
            with self._caller(context) as silo:
                upload_id = _first(request_iterator).upload_id
                with self.turns.take(silo, _nothing):
                    return pb.UploadOffset(offset=self._spool.offset(silo, upload_id))
        except RefusedError as error:
            return pb.UploadOffset(refusal=refusal_to_wire(error.refusal))
        except grpc.RpcError:
            context.abort(grpc.StatusCode.CANCELLED, _CUT)

    def upload(self, request_iterator: Iterator[bytes], context: grpc.ServicerContext) -> pb.Reply:
        """Raw bytes into the spool; when they are all there, the enclave's verdict."""
        try:
            with self._caller(context) as silo:
                return self._upload(silo, request_iterator, context)
        except RefusedError as error:
            return pb.Reply(refusal=refusal_to_wire(error.refusal))
        except EnclaveAwayError:
            context.abort(grpc.StatusCode.UNAVAILABLE, ENCLAVE_AWAY)
        except grpc.RpcError:
            context.abort(grpc.StatusCode.CANCELLED, "the upload was cut; go on where it stopped")
        except OSError as error:
            context.abort(
                grpc.StatusCode.UNAVAILABLE,
                f"the appliance's spool can't be written ({error.strerror}); tell its operator, and try again",
            )

    def _upload(self, silo: str, request_iterator: Iterator[bytes], context: grpc.ServicerContext) -> pb.Reply:
        upload_id, offset, size = _announced(context)
        with (
            self.turns.take(silo, context.cancel),
            self._spool.resume(silo, upload_id, offset=offset, size=size) as upload,
        ):
            for data in request_iterator:
                upload.write(data)
            reply = self._link.complete(silo, upload.complete())
            self._spool.forget_older(silo, upload_id)
            if reply.refusal.code == RefusalCode.UPDATE_SIGNATURE:
                # These bytes are not the ones that were signed: the silo sends them again from the beginning.
                self._spool.forget(silo, upload_id)
            return reply

    # Downloads

    def download(self, request_iterator: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """A sealed body as raw bytes."""
        try:
            with self._caller(context) as silo:
                wanted = _parse_request(_first(request_iterator))
                with self._bodies.open(silo, wanted.name, wanted.offset) as body:
                    yield from body
        except RefusedError as error:
            details = refusal_to_wire(error.refusal).SerializeToString()
            context.set_trailing_metadata(((REFUSAL_METADATA, details),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except grpc.RpcError:
            context.abort(grpc.StatusCode.CANCELLED, _CUT)
        except OSError as error:
            context.abort(
                grpc.StatusCode.UNAVAILABLE,
                f"the appliance's store can't be read ({error.strerror}); tell its operator, and try again",
            )


def _announced(context: grpc.ServicerContext) -> tuple[bytes, int, int]:
    """Upload id, offset and size from an upload's metadata; raises `RefusedError`."""
    metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
    upload_id, offset, size = (metadata.get(key, "") for key in (UPLOAD_ID_METADATA, OFFSET_METADATA, SIZE_METADATA))
    if not _UPLOAD_ID.fullmatch(upload_id) or not _NUMBER.fullmatch(offset) or not _NUMBER.fullmatch(size):
        raise refuse(
            RefusalCode.MALFORMED,
            expected=f"metadata {UPLOAD_ID_METADATA} (32 hexadecimal digits), {OFFSET_METADATA} and {SIZE_METADATA}",
            found="other metadata",
            remedy="update the silo's software",
        )
    return bytes.fromhex(upload_id), int(offset), int(size)


def _parse_request(request: bytes) -> DownloadRequest:
    try:
        return DownloadRequest.parse(request)
    except MalformedError as error:
        raise refuse(
            RefusalCode.MALFORMED,
            expected="a download request",
            found=str(error),
            remedy="update the silo's software",
        ) from error


def _first(requests: Iterator[_Request]) -> _Request:
    """The one request of a method that has one; raises `RefusedError` where the call ends without."""
    for request in requests:
        return request
    raise refuse(
        RefusalCode.MALFORMED, expected="a request", found="a call without one", remedy="update the silo's software"
    )


def _nothing() -> None:
    """A status is told in an instant; there is nothing to give up."""
