"""What a log signs (C2SP tlog-checkpoint): the text of a checkpoint, in the one spelling that we read and write.

Pure; verifies nothing. Called by notes and checkpoints, and by those types of signature that cover a tree head and not
the text that says it.
"""

import re
from dataclasses import dataclass

from audit.merkle import MAXIMUM_SIZE, TreeHead
from protocol.errors import MalformedError
from protocol.fields import decode_base64, encode_base64

MAXIMUM_ORIGIN_BYTES = 255
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def checkpoint_text(origin: str, head: TreeHead) -> bytes:
    """What a log signs: origin, size and root hash, a line each."""
    return f"{origin}\n{head.size}\n{encode_base64(head.root)}\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointText:
    """Origin, tree head and extension lines of one checkpoint."""

    origin: str
    head: TreeHead
    extensions: tuple[str, ...]

    @classmethod
    def parse(cls, text: bytes) -> "CheckpointText":
        """Read a note's text, its final newline included; raises `MalformedError`."""
        try:
            origin, *rest = text.decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise MalformedError(f"checkpoint: expected UTF-8, found byte {error.start} out of place") from error
        if len(rest) < 3 or rest.pop() or not origin or not all(rest):
            raise MalformedError("checkpoint: expected non-empty lines: origin, size and root hash")
        size, root, *extensions = rest
        if len(origin.encode()) > MAXIMUM_ORIGIN_BYTES:
            raise MalformedError(f"checkpoint: expected an origin of at most {MAXIMUM_ORIGIN_BYTES} bytes")
        if not _SIZE.fullmatch(size) or int(size) > MAXIMUM_SIZE:
            raise MalformedError(f"checkpoint: expected a decimal size without leading zeros, found {size[:80]!r}")
        digest = decode_base64(root)
        if digest is None:
            raise MalformedError(f"checkpoint: expected a root hash in base64, found {root[:80]!r}")
        return cls(origin=origin, head=TreeHead(size=int(size), root=digest), extensions=tuple(extensions))
