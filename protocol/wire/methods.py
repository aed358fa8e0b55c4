"""What the generated code doesn't say: the raw byte streams, their limits, and refusals on the wire.

Used by the gateway and by a silo's client. Nothing here is trusted; sizes are bounds for whoever receives.

`Upload`    raw bytes up, one serialised `Reply` back. Metadata `upload-id` (32 hexadecimal digits), `offset` and `size`
            (decimal). `offset` must be what `UploadStatus` answered; where it equals `size` no bytes follow, and the
            verdict is asked for again. A new upload of a silo, or its `UploadStatus`, ends the one that is running.
`Download`  one canonical `DownloadRequest` up, raw bytes back, from `offset` to the end of the blob.

A refusal is the `refusal` of a `Reply` or an `UploadOffset`. `Download`, which has neither, ends with the status
FAILED_PRECONDITION and carries a serialised `Refusal` in its trailing metadata. A `Session` ends after any refusal.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from protocol.agreement_toml import printable
from protocol.errors import MalformedError, Refusal, RefusalCode, TurnedAwayError
from protocol.record import Count, Record, Text
from protocol.wire import strongroom_pb2 as pb

ENROLMENT_SERVICE = "strongroom.v1.Enrolment"
FEDERATION_SERVICE = "strongroom.v1.Federation"
UPLOAD = f"/{FEDERATION_SERVICE}/Upload"
DOWNLOAD = f"/{FEDERATION_SERVICE}/Download"

BULK_MESSAGE_BYTES = 2**20
"""Length of a raw message (the last may be shorter); the best of those measured."""
MESSAGE_LIMIT_BYTES = 2**20 + 2**16
"""No message of any RPC is longer; a receiver sets it as `grpc.max_receive_message_length`."""
ENROLMENT_LIMIT_BYTES = 2**19
"""No message to the enrolment port is longer."""

UPLOAD_ID_METADATA = "upload-id"
OFFSET_METADATA = "offset"
SIZE_METADATA = "size"
REFUSAL_METADATA = "refusal-bin"
_REFUSAL_PART_CHARACTERS = 1000

GATEWAY_NAME = "strongroom-gateway"
"""The DNS name in the gateway's self-signed certificate (`grpc.ssl_target_name_override`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRequest(Record, limit_bytes=1024):
    """A sealed body by its announced name, from a byte offset on."""

    name: Text
    offset: Count


def upload_metadata(*, upload_id: bytes, offset: int, size: int) -> tuple[tuple[str, str], ...]:
    """The metadata of an `Upload`: the blob's 16-byte upload id, where these bytes begin, the whole blob's bytes."""
    return (
        (UPLOAD_ID_METADATA, upload_id.hex()),
        (OFFSET_METADATA, str(offset)),
        (SIZE_METADATA, str(size)),
    )


def refusal_to_wire(refusal: Refusal) -> pb.Refusal:
    """A refusal as it travels."""
    return pb.Refusal(code=refusal.code.value, expected=refusal.expected, found=refusal.found, remedy=refusal.remedy)


def refusal_from_wire(refusal: pb.Refusal) -> TurnedAwayError:
    """The error to raise for a refusal that arrived; raises `MalformedError` where its code is unknown.

    Its words go to a person's terminal, and are anybody's: each part is one bounded line that prints as itself.
    """
    try:
        code = RefusalCode(refusal.code)
    except ValueError as error:
        raise MalformedError(f"refusal: unknown code {refusal.code[:63]!a}") from error
    expected, found, remedy = (_one_line(part) for part in (refusal.expected, refusal.found, refusal.remedy))
    return TurnedAwayError(Refusal(code=code, expected=expected, found=found, remedy=remedy))


def refusal_from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> TurnedAwayError | None:
    """The refusal in an RPC's trailing metadata, if one is there; raises `MalformedError` if it does not parse."""
    for key, value in metadata:
        if key == REFUSAL_METADATA and isinstance(value, bytes):
            try:
                return refusal_from_wire(pb.Refusal.FromString(value))
            except DecodeError as error:
                raise MalformedError("refusal: not a serialised Refusal") from error
    return None


def message_of(reply: pb.Reply) -> bytes:
    """The reply's message; raises the `TurnedAwayError` that it carries instead, or `MalformedError` if it is empty."""
    result = reply.WhichOneof("result")
    if result == "refusal":
        raise refusal_from_wire(reply.refusal)
    if result != "message":
        raise MalformedError("reply: expected a message or a refusal, found neither")
    return reply.message


def _one_line(text: str) -> str:
    cut = text if len(text) <= _REFUSAL_PART_CHARACTERS else text[:_REFUSAL_PART_CHARACTERS] + "…"
    return printable(cut)
