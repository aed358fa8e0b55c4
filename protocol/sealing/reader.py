"""Read one blob: authenticate it once, then open any chunk of it, in any order and from any number of threads.

The source is untrusted and may change under the reader's hands. Header, wrap and tags are therefore read once and
kept; a chunk opens only under the tag that the signature covered. A tag binds a chunk against everybody who lacks the
content key and against nobody who has it (DESIGN §6): what else it takes is the business of inspection and merge.

Checks, in this order; the numbers are repeated at each.

1. the framing: magic, lengths, canonical header (constructor; `MalformedError`)
2. the length: exactly what header, wrap and chunks ask for (`RefusedError`, wrong-size)
3. the header against what is expected (`RefusedError`, by field)
4. the sender's signature over header, wrap and all tags (`SignatureError`)
5. the wrap under the recipient's key and this header (`SignatureError`)
6. each segment: it can still be read, its tag is the signed one, and it opens at its place (`SignatureError`)
"""

import threading
from collections.abc import Sequence

from attestation.encoding import labelled_digest
from protocol.errors import MalformedError, RefusalCode, SignatureError, refuse
from protocol.keys import SIGNATURE_BYTES, SealingKey, VerifyingKey
from protocol.layout import Chunk
from protocol.sealing.bytes_io import ByteSource, read
from protocol.sealing.content_key import TAG_BYTES, WRAP_LABEL, ContentKey
from protocol.sealing.expected import ExpectedHeader
from protocol.sealing.geometry import METADATA_BYTES, Geometry, read_prelude, unpad_metadata
from protocol.sealing.header import BlobHeader, header_hash
from protocol.sealing.writer import DIGEST_LABEL, SIGNATURE_LABEL


class BlobReader:
    """Opens one blob. Once it is authenticated, its methods may be called from several threads."""

    def __init__(self, source: ByteSource, chunks: Sequence[Chunk]) -> None:
        """Reads header and wrap; `chunks` are those of the reader's own layout. Raises `MalformedError`."""
        # 1. framing
        self._encoded, self._wrap = read_prelude(source)
        self.header = BlobHeader.parse(self._encoded)
        self._header_hash = header_hash(self._encoded)
        self._source = source
        self._geometry = Geometry(len(self._encoded), len(self._wrap), chunks)
        self._tags: bytes | None = None
        self._scratch = threading.local()

    @property
    def size_expected(self) -> int:
        """The length that header, wrap and chunks ask for."""
        return self._geometry.size

    def authenticate(self, sender: VerifyingKey, expected: ExpectedHeader | None = None) -> bytes:
        """Check length, header and signature, and return the blob's digest (32 bytes).

        `expected` is None only where the digest that comes back is compared with one that is trusted already. Reads
        16 bytes a chunk. Raises `RefusedError`, `SignatureError`, and `MalformedError` if the source shrinks.
        """
        # 2. length
        found = self._source.size()
        if found != self._geometry.size:
            raise refuse(
                RefusalCode.WRONG_SIZE,
                expected=f"{self._geometry.size} bytes",
                found=f"{found}",
                remedy="send the whole object as it was sealed, for the agreement's layout",
            )
        # 3. header
        if expected is not None:
            expected.require(self.header)
        # 4. signature
        tags = self._read_tags()
        signature = read(self._source, self._geometry.signature_offset, SIGNATURE_BYTES)
        sender.verify(signature, SIGNATURE_LABEL, self._encoded, self._wrap, tags)
        self._tags = tags
        return self.digest

    @property
    def digest(self) -> bytes:
        """The digest of the authenticated blob; `ValueError` before `authenticate`."""
        return labelled_digest(DIGEST_LABEL, self._encoded, self._wrap, self._authenticated_tags())

    def unwrap(self, recipient: SealingKey) -> ContentKey:
        """The content key; raises `SignatureError` unless it was wrapped to this recipient under this header."""
        # 5. wrap
        self._authenticated_tags()
        return ContentKey.unwrap(self._wrap, recipient, WRAP_LABEL, self._header_hash)

    def open_metadata(self, key: ContentKey) -> bytes:
        """The metadata; raises `SignatureError`, or `MalformedError` if its padding is not."""
        padded = bytearray(METADATA_BYTES)
        self._open(0, key, memoryview(padded), None)
        return unpad_metadata(bytes(padded))

    def open_chunk(self, position: int, key: ContentKey, out: memoryview, scratch: memoryview | None = None) -> None:
        """Decrypt the chunk at `position` into `out`, which has exactly its size (`ValueError` otherwise).

        `scratch`: a buffer for the ciphertext, of the chunk's size and 16 bytes at least; without one, the reader
        keeps one for each thread. On a wrong tag, wipes `out` and raises `SignatureError`.
        """
        if not 0 <= position < self._geometry.segments - 1:
            raise ValueError(f"position: expected 0 to {self._geometry.segments - 2}, found {position}")
        self._open(position + 1, key, out, scratch)

    def _open(self, segment: int, key: ContentKey, out: memoryview, scratch: memoryview | None) -> None:
        # 6. segment
        tags = self._authenticated_tags()
        size = self._geometry.plaintext_size(segment)
        if len(out) != size:
            raise ValueError(f"segment {segment}: expected a buffer of {size} bytes, found {len(out)}")
        sealed = (self._own_scratch() if scratch is None else scratch)[: size + TAG_BYTES]
        try:
            self._source.read_into(self._geometry.offset(segment), sealed)
        except MalformedError as error:
            raise SignatureError(
                f"segment {segment}: no longer there, and was when the signature was checked"
            ) from error
        if sealed[size:] != tags[TAG_BYTES * segment : TAG_BYTES * (segment + 1)]:
            out[:] = bytes(size)
            raise SignatureError(f"segment {segment}: changed since the sender's signature was checked")
        key.open_segment(segment, self._geometry.is_last(segment), sealed, self._header_hash, out)

    def _read_tags(self) -> bytes:
        tags = bytearray(TAG_BYTES * self._geometry.segments)
        view = memoryview(tags)
        for segment in range(self._geometry.segments):
            place = view[TAG_BYTES * segment : TAG_BYTES * (segment + 1)]
            self._source.read_into(self._geometry.tag_offset(segment), place)
        return bytes(tags)

    def _authenticated_tags(self) -> bytes:
        if self._tags is None:
            raise ValueError("this blob has not been authenticated")
        return self._tags

    def _own_scratch(self) -> memoryview:
        if not hasattr(self._scratch, "buffer"):
            self._scratch.buffer = memoryview(bytearray(self._geometry.largest_segment))
        buffer: memoryview = self._scratch.buffer
        return buffer
