"""Seal a body again: a model that a silo hands in, or the enclave's own bodies once the log has another key.

Called by the enclave before a round opens. Whoever sealed it before is believed in nothing: what counts is the content
digest that the agreement or the log names.
"""

from appliance.enclave.buffers import ChunkBuffer, largest_chunk_bytes
from appliance.enclave.content import ChunkHashes, require_content
from appliance.enclave.merge_inputs import SealedBody
from protocol.layout import Layout
from protocol.sealing.content_key import TAG_BYTES
from protocol.sealing.writer import BlobWriter


def reseal(body: SealedBody, layout: Layout, output: BlobWriter) -> None:
    """Copy a whole model or control, chunk by chunk, into a body under a fresh key that its sender doesn't know.

    The caller signs `output` (`BlobWriter.finish`) once this has returned, and discards it if it raises:
    `RefusedError` (wrong-model) unless the content is `body.content`; `SignatureError` where a chunk does not open.
    Memory: two chunks.
    """
    kind = body.reader.header.kind
    chunks = kind.chunks_of(layout)
    size = largest_chunk_bytes(chunks)
    buffer = ChunkBuffer(size)
    ciphertext = memoryview(bytearray(size + TAG_BYTES))
    hashes = ChunkHashes(len(chunks))
    try:
        for chunk in chunks:
            plaintext = buffer.bytes_for(chunk)
            body.reader.open_chunk(chunk.index, body.content_key, plaintext, ciphertext)
            hashes.put(chunk.index, plaintext)
            output.seal_chunk(chunk.index, plaintext, ciphertext)
    finally:
        buffer.wipe()
    require_content(f"the {kind}", expected=body.content, found=hashes.digest(layout))
