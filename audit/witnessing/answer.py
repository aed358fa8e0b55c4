"""What a witness answers to `add-checkpoint` (C2SP tlog-witness), written and read.

    200  cosignature lines                          409  the size that the witness has cosigned (text/x.tlog.size),
    400  not a request, or old > checkpoint              or another root at that size
    403  not signed by the log                      422  the consistency proof does not lead to the checkpoint
    404  a log that the witness does not know

Pure. The reader trusts nothing: a cosignature is verified by whoever counts it. Written by `witness.py`, read by the
gateway's courier.
"""

import re
from dataclasses import dataclass

from audit.merkle import MAXIMUM_SIZE
from audit.note import MAXIMUM_SIGNATURES, NoteSignature, VerifierKey
from protocol.errors import MalformedError, ProtocolError

COSIGNED = 200
NOT_A_REQUEST = 400
NOT_THE_LOGS = 403
UNKNOWN_LOG = 404
CONFLICT = 409
NOT_CONSISTENT = 422
SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"
MAXIMUM_ANSWER_BYTES = 2**19
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


class WitnessRefusedError(ProtocolError):
    """A witness answered, and does not cosign; the message has the status and the witness's own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer: status, content type, body."""

    status: int
    content_type: str
    body: bytes

    @classmethod
    def cosigned(cls, line: NoteSignature) -> "Answer":
        """200 with one cosignature."""
        return cls(status=COSIGNED, content_type=TEXT_TYPE, body=line.encode().encode())

    @classmethod
    def conflict(cls, size: int) -> "Answer":
        """409 with the size of the newest cosigned checkpoint."""
        return cls(status=CONFLICT, content_type=SIZE_TYPE, body=f"{size}\n".encode())

    @classmethod
    def refused(cls, status: int, why: str) -> "Answer":
        """Any other status, with a line for a person."""
        return cls(status=status, content_type=TEXT_TYPE, body=f"{why}\n".encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The witness has cosigned a checkpoint of `size` entries, and wants a proof from there."""

    size: int


def read_answer(answer: Answer, key: VerifierKey) -> NoteSignature | Conflict:
    """The cosignature line of `key`, not verified yet, or the size that the witness is at.

    Lines by other keys are skipped. Raises `MalformedError` for what is no answer of this protocol or has no line by
    the key, `WitnessRefusedError` for any other status.
    """
    if len(answer.body) > MAXIMUM_ANSWER_BYTES:
        raise MalformedError(f"witness: expected at most {MAXIMUM_ANSWER_BYTES} bytes, found {len(answer.body)}")
    if answer.status == COSIGNED:
        return _line_of(answer.body, key)
    if answer.status == CONFLICT:
        match = _SIZE.fullmatch(answer.body)
        kind = answer.content_type.partition(";")[0].strip().lower()
        if kind != SIZE_TYPE or match is None or int(match[1]) > MAXIMUM_SIZE:
            raise MalformedError(f"witness: expected a size as {SIZE_TYPE} with 409, found {answer.body[:80]!r}")
        return Conflict(size=int(match[1]))
    words = answer.body[:200].decode("utf-8", "replace").strip()
    raise WitnessRefusedError(f"witness: expected a cosignature, found status {answer.status}: {words!r}")


def _line_of(body: bytes, key: VerifierKey) -> NoteSignature:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"witness: expected UTF-8, found byte {error.start} out of place") from error
    if not text.endswith("\n") or text.count("\n") > MAXIMUM_SIGNATURES:
        raise MalformedError(f"witness: expected 1 to {MAXIMUM_SIGNATURES} signature lines, each ending in a newline")
    for signature in [NoteSignature.parse(line + "\n") for line in text[:-1].split("\n")]:
        if signature.signer == key.signer:
            return signature
    raise MalformedError(f"witness: expected a cosignature by {key}, found none")
