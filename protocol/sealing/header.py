"""A blob's header: what the object is, which moment of which federation it belongs to, and who made it.

The header travels in the clear and is authenticated three times over: the wrap of the content key is bound to its
hash, so is every segment, and the sender's signature covers it.
"""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from protocol import canonical
from protocol.fields import Fields, format_digest
from protocol.layout import Chunks, Layout

HEADER_LIMIT_BYTES = 4096
ENCODINGS = ("float32",)
# The sender of models and controls; a silo of that name can make neither kind of body.
APPLIANCE = "appliance"


class BlobKind(StrEnum):
    """What a blob holds, and with it which of the layout's chunks."""

    MODEL = "model"
    CONTROL = "control"
    UPDATE = "update"
    INITIAL = "initial"

    def chunks_of(self, layout: Layout) -> Chunks:
        """The chunks that a blob of this kind consists of."""
        if self is BlobKind.CONTROL:
            return layout.control_chunks
        return layout.update_chunks if self is BlobKind.UPDATE else layout.chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobHeader:
    """The fields of a header (DESIGN §6).

    `agreement`, `base_model`, `layout`: 32-byte digests; `boot_id`: 32 bytes; `upload_id`, `parent`: 16 bytes, where
    `parent` is the sender's last update that was used. `base_model` is the content digest of the model that the body
    was derived from (for INITIAL and for the first MODEL: the agreement's initial model itself).
    """

    kind: BlobKind
    agreement: bytes
    origin: str
    boot_id: bytes
    round: int
    attempt: int
    sender: str
    upload_id: bytes
    base_model: bytes
    layout: bytes
    encoding: str
    parent: bytes | None

    def encode(self) -> bytes:
        """The canonical JSON bytes of the header."""
        return canonical.encode(
            {
                "kind": self.kind.value,
                "agreement": format_digest(self.agreement),
                "origin": self.origin,
                "boot_id": self.boot_id.hex(),
                "round": self.round,
                "attempt": self.attempt,
                "sender": self.sender,
                "upload_id": self.upload_id.hex(),
                "base_model": format_digest(self.base_model),
                "layout": format_digest(self.layout),
                "encoding": self.encoding,
                "parent": None if self.parent is None else self.parent.hex(),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "BlobHeader":
        """Read a header; raises `MalformedError` on anything but the canonical form of exactly these fields."""
        fields = Fields(canonical.decode(data, limit_bytes=HEADER_LIMIT_BYTES), "blob header")
        header = cls(
            kind=BlobKind(fields.choice("kind", tuple(BlobKind))),
            agreement=fields.digest("agreement"),
            origin=fields.text("origin"),
            boot_id=fields.hexadecimal("boot_id", size=32),
            round=fields.integer("round"),
            attempt=fields.integer("attempt"),
            sender=fields.name("sender"),
            upload_id=fields.hexadecimal("upload_id", size=16),
            base_model=fields.digest("base_model"),
            layout=fields.digest("layout"),
            encoding=fields.choice("encoding", ENCODINGS),
            parent=None if fields.take_null("parent") else fields.hexadecimal("parent", size=16),
        )
        fields.close()
        return header


def header_hash(encoded_header: bytes) -> bytes:
    """SHA-256 of the header's bytes: the additional data of every segment and the context of the wrap."""
    return sha256(encoded_header).digest()
