"""The body of an `add-checkpoint` request (C2SP tlog-witness): the size known, a consistency proof, a checkpoint.

    old <size>
    <base64 hash>            none to 63 lines
    <empty line>
    <checkpoint>

Pure. The parser trusts nothing; the checkpoint's signatures are for `witness.py` to check. Written by the gateway's
courier, read by `strongroom witness serve`.
"""

import re
from dataclasses import dataclass

from audit.merkle import HASH_BYTES, MAXIMUM_PROOF_HASHES, MAXIMUM_SIZE
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint
from protocol.errors import MalformedError
from protocol.fields import decode_base64, encode_base64

ADD_CHECKPOINT = "/add-checkpoint"
"""The path below a witness's submission prefix."""
MAXIMUM_REQUEST_BYTES = MAXIMUM_NOTE_BYTES + 64 * (MAXIMUM_PROOF_HASHES + 1)
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """One request: the proof (32-byte hashes) leads from the tree of `old_size` entries to the checkpoint's."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint

    def encode(self) -> bytes:
        """The request's body."""
        lines = [f"old {self.old_size}", *(encode_base64(digest) for digest in self.proof)]
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint.encode()

    @classmethod
    def parse(cls, data: bytes) -> "AddCheckpoint":
        """Read a body; raises `MalformedError`. That the old size is no larger than the new is not checked here."""
        if len(data) > MAXIMUM_REQUEST_BYTES:
            raise MalformedError(f"add-checkpoint: expected at most {MAXIMUM_REQUEST_BYTES} bytes, found {len(data)}")
        front, blank, note = data.partition(b"\n\n")
        try:
            old, *hashes = front.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise MalformedError("add-checkpoint: expected ASCII before the checkpoint") from error
        match = _OLD.fullmatch(old)
        if not blank or match is None or int(match[1]) > MAXIMUM_SIZE:
            raise MalformedError('add-checkpoint: expected "old <decimal>", hashes, an empty line, a checkpoint')
        if len(hashes) > MAXIMUM_PROOF_HASHES:
            raise MalformedError(f"add-checkpoint: expected at most {MAXIMUM_PROOF_HASHES} hashes, found {len(hashes)}")
        proof = tuple(_hash(line) for line in hashes)
        return cls(old_size=int(match[1]), proof=proof, checkpoint=Checkpoint.parse(note))


def _hash(line: str) -> bytes:
    digest = decode_base64(line)
    if digest is None or len(digest) != HASH_BYTES:
        raise MalformedError(f"add-checkpoint: expected a hash of {HASH_BYTES} bytes in base64, found {line[:80]!r}")
    return digest
