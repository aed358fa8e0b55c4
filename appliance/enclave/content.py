"""Content digests while streaming: what a body's plaintext is, as the log names it.

Tags bind a body against nobody who holds its key, and every silo of a round holds the model's. Whoever reads a model or
control to compute with it compares this digest.
"""

from hashlib import sha256

from protocol.errors import RefusalCode, refuse
from protocol.fields import format_digest
from protocol.layout import Layout, content_digest

_HASH_BYTES = 32


class ChunkHashes:
    """SHA-256 of each chunk's plaintext, filled in any order; each place by one thread."""

    def __init__(self, chunks: int) -> None:
        self._hashes = bytearray(_HASH_BYTES * chunks)

    def put(self, index: int, plaintext: memoryview) -> None:
        """Hash the chunk at `index`."""
        self._hashes[_HASH_BYTES * index : _HASH_BYTES * (index + 1)] = sha256(plaintext).digest()

    def digest(self, layout: Layout) -> bytes:
        """The content digest (32 bytes) over all of them."""
        starts = range(0, len(self._hashes), _HASH_BYTES)
        return content_digest(layout.digest, [bytes(self._hashes[start : start + _HASH_BYTES]) for start in starts])


def require_content(what: str, *, expected: bytes, found: bytes) -> None:
    """Raise `RefusedError` (wrong-model) unless the plaintext that was read is the one that was named."""
    if found != expected:
        raise refuse(
            RefusalCode.WRONG_MODEL,
            expected=f"{what} with content {format_digest(expected)}",
            found=format_digest(found),
            remedy="nothing of it was used; fetch or upload it again, or restore the store",
        )
