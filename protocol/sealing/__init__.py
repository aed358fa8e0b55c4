"""Sealed blobs (DESIGN §6): one format for models, controls and updates, written and read chunk by chunk."""

from protocol.sealing.bytes_io import ByteSink, ByteSource, MemoryBytes
from protocol.sealing.content_key import ContentKey
from protocol.sealing.expected import ANY, ExpectedHeader
from protocol.sealing.geometry import size_of
from protocol.sealing.header import BlobHeader, BlobKind
from protocol.sealing.model_key import ModelKey, ModelKeyTerms, key_digest
from protocol.sealing.reader import BlobReader
from protocol.sealing.writer import BlobWriter, wrap_content_key

__all__ = [
    "ANY",
    "BlobHeader",
    "BlobKind",
    "BlobReader",
    "BlobWriter",
    "ByteSink",
    "ByteSource",
    "ContentKey",
    "ExpectedHeader",
    "MemoryBytes",
    "ModelKey",
    "ModelKeyTerms",
    "key_digest",
    "size_of",
    "wrap_content_key",
]
