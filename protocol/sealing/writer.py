"""Write one blob, chunk by chunk, in any order and from any number of threads.

Memory: the caller's plaintext buffers, one ciphertext buffer a thread, and 16 bytes a chunk. Nothing of the blob can
be opened by anybody who trusts its signature until `finish` has written it.
"""

import threading
from collections.abc import Sequence

from attestation.encoding import labelled_digest
from protocol.keys import SealingPublicKey, SigningKey
from protocol.layout import Chunk
from protocol.sealing.bytes_io import ByteSink, Readable
from protocol.sealing.content_key import TAG_BYTES, WRAP_LABEL, ContentKey
from protocol.sealing.geometry import WRAP_BYTES, Geometry, encode_prelude, pad_metadata
from protocol.sealing.header import HEADER_LIMIT_BYTES, BlobHeader, header_hash

SIGNATURE_LABEL = "strongroom/blob/v1"
DIGEST_LABEL = "strongroom/blob-digest/v1"


def wrap_content_key(key: ContentKey, header: BlobHeader, recipient: SealingPublicKey) -> bytes:
    """The wrap that goes into a blob: the key sealed to the one who may open it, bound to the header.

    Raises `MalformedError` if the recipient's key is not one.
    """
    return key.wrap(recipient, WRAP_LABEL, header_hash(header.encode()))


class BlobWriter:
    """Seals one blob into a sink. `seal_chunk` may be called from several threads for different positions."""

    def __init__(
        self,
        header: BlobHeader,
        chunks: Sequence[Chunk],
        sink: ByteSink,
        content_key: ContentKey,
        wrap: bytes = b"",
        metadata: bytes = b"",
    ) -> None:
        """Writes header, wrap and metadata.

        `wrap`: of `wrap_content_key`, or empty where the key is handed out apart (`ModelKey`); `metadata`: at most
        4,092 bytes. Claims `content_key`, which must be fresh. Raises `ValueError` on sizes that no reader accepts.
        """
        encoded = header.encode()
        if len(encoded) > HEADER_LIMIT_BYTES or len(wrap) not in (0, WRAP_BYTES):
            raise ValueError(f"blob: header of {len(encoded)} or wrap of {len(wrap)} bytes is out of bounds")
        padded = pad_metadata(metadata)
        content_key.claim_for_writing()
        self.header = header
        self._encoded = encoded
        self._wrap = wrap
        self._header_hash = header_hash(encoded)
        self._geometry = Geometry(len(encoded), len(wrap), chunks)
        self._sink = sink
        self._key = content_key
        self._tags = bytearray(TAG_BYTES * self._geometry.segments)
        self._claimed = bytearray(self._geometry.segments)
        self._sealed = bytearray(self._geometry.segments)
        self._lock = threading.Lock()
        self._scratch = threading.local()
        sink.write_at(0, encode_prelude(encoded, wrap))
        self._seal(0, padded, None)

    @property
    def size(self) -> int:
        """How long the blob will be."""
        return self._geometry.size

    def seal_chunk(self, position: int, plaintext: Readable, scratch: memoryview | None = None) -> None:
        """Encrypt the chunk at `position` and write it. Each position once, at its exact size (`ValueError`).

        `scratch`: a buffer for the ciphertext, of the chunk's size and 16 bytes at least; without one, the writer
        keeps one for each thread. The plaintext may lie at the beginning of it.
        """
        if not 0 <= position < self._geometry.segments - 1:
            raise ValueError(f"position: expected 0 to {self._geometry.segments - 2}, found {position}")
        self._seal(position + 1, plaintext, scratch)

    def finish(self, signing_key: SigningKey) -> bytes:
        """Sign header, wrap and all tags, write the signature, and return the blob's digest (32 bytes)."""
        with self._lock:
            missing = self._sealed.find(0)
            if missing >= 0:
                raise ValueError(f"blob: segment {missing} of {self._geometry.segments} has not been sealed")
        tags = bytes(self._tags)
        signature = signing_key.sign(SIGNATURE_LABEL, self._encoded, self._wrap, tags)
        self._sink.write_at(self._geometry.signature_offset, signature)
        return labelled_digest(DIGEST_LABEL, self._encoded, self._wrap, tags)

    def _seal(self, segment: int, plaintext: Readable, scratch: memoryview | None) -> None:
        size = self._geometry.plaintext_size(segment)
        if len(plaintext) != size:
            raise ValueError(f"segment {segment}: expected {size} bytes, found {len(plaintext)}")
        with self._lock:
            # A second plaintext under one nonce would give away both and the key's authentication.
            if self._claimed[segment]:
                raise ValueError(f"segment {segment}: sealed already")
            self._claimed[segment] = 1
        sealed = (self._own_scratch() if scratch is None else scratch)[: size + TAG_BYTES]
        self._key.seal_segment(segment, self._geometry.is_last(segment), plaintext, self._header_hash, sealed)
        self._sink.write_at(self._geometry.offset(segment), sealed)
        self._tags[TAG_BYTES * segment : TAG_BYTES * (segment + 1)] = sealed[size:]
        self._sealed[segment] = 1

    def _own_scratch(self) -> memoryview:
        if not hasattr(self._scratch, "buffer"):
            self._scratch.buffer = memoryview(bytearray(self._geometry.largest_segment))
        buffer: memoryview = self._scratch.buffer
        return buffer
