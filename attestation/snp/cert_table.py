"""A host's certificate table for its guests: `auxblob` of configfs-tsm, SNP_GET_EXT_REPORT of /dev/sev-guest.

The host fills it in as it likes: nothing in it is trusted. Of a table, the signing key's certificate and revocation
lists are of use; ASK and ARK ship with us, and hosts are known to put malformed ones there.

Source: AMD 56421 (GHCB), SNP Extended Guest Request: entries of GUID, offset and length (u32le each) up to one of
zeros, then the data. The GUIDs stand in the byte order of RFC 9562 where AMD's own tools and go-sev-guest write them;
the mixed order of Microsoft's GUIDs is read as well, and neither can be mistaken for the other.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from attestation.errors import EvidenceMalformed

MAXIMUM_TABLE_BYTES: Final = 64 * 1024
MAXIMUM_ENTRIES: Final = 32
_ENTRY_BYTES: Final = 24
_GUID_BYTES: Final = 16


class TableEntryKind(StrEnum):
    """What an entry's GUID says that it holds; `ASK` stands for ASVK as well."""

    VCEK = "VCEK"
    VLEK = "VLEK"
    ASK = "ASK"
    ARK = "ARK"
    CRL = "CRL"


_KINDS: Final = {
    UUID("63da758d-e664-4564-adc5-f4b93be8accd"): TableEntryKind.VCEK,
    UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"): TableEntryKind.VLEK,
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"): TableEntryKind.ASK,
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"): TableEntryKind.ARK,
    UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea"): TableEntryKind.CRL,
}
_KIND_OF: Final = {form: kind for guid, kind in _KINDS.items() for form in (guid.bytes, guid.bytes_le)}
_USEFUL: Final = (TableEntryKind.VCEK, TableEntryKind.VLEK, TableEntryKind.CRL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """One entry: 16 bytes of GUID as received, and its data."""

    guid: bytes
    data: bytes

    @property
    def kind(self) -> TableEntryKind | None:
        """What it claims to be; None for a GUID that only its vendor knows."""
        return _KIND_OF.get(self.guid)

    @property
    def useful(self) -> bool:
        """Whether it may serve as an endorsement: a signing key's certificate or a revocation list."""
        return self.kind in _USEFUL

    @property
    def name(self) -> str:
        """The kind, or the GUID, for messages."""
        return self.kind or str(UUID(bytes=self.guid))


@dataclass(frozen=True, slots=True, kw_only=True)
class CertTable:
    """A host's certificate table."""

    entries: tuple[TableEntry, ...]

    @classmethod
    def parse(cls, data: bytes) -> "CertTable":
        """Read a table of at most 64 KiB and 32 entries; raises `EvidenceMalformed`.

        Entries lie behind the list of them, one after another or with zeros between; no kind stands there twice. An
        empty `auxblob` is no table: the host offers none.
        """
        if len(data) > MAXIMUM_TABLE_BYTES:
            raise EvidenceMalformed(
                "certificate table", expected=f"at most {MAXIMUM_TABLE_BYTES} bytes", found=str(len(data))
            )
        places = _places(data)
        position = (len(places) + 1) * _ENTRY_BYTES
        for guid, start, stop in sorted(places, key=lambda place: place[1:]):
            name = TableEntry(guid=guid, data=b"").name
            if not position <= start < stop <= len(data):
                raise EvidenceMalformed(
                    f"certificate table {name}",
                    expected=f"some bytes from {position} to {len(data)}",
                    found=f"{start} to {stop}",
                )
            _zero(data[position:start])
            position = stop
        _zero(data[position:])
        entries = tuple(TableEntry(guid=guid, data=data[start:stop]) for guid, start, stop in places)
        names = [entry.name for entry in entries]
        if len(set(names)) != len(names):
            raise EvidenceMalformed("certificate table", expected="each kind once", found=", ".join(names))
        return cls(entries=entries)

    def encode(self) -> bytes:
        """A table that `parse` reads: the data one after another, in the order of the entries."""
        position = (len(self.entries) + 1) * _ENTRY_BYTES
        head = b""
        for entry in self.entries:
            head += entry.guid + position.to_bytes(4, "little") + len(entry.data).to_bytes(4, "little")
            position += len(entry.data)
        return head + bytes(_ENTRY_BYTES) + b"".join(entry.data for entry in self.entries)

    def endorsements(self) -> tuple[bytes, ...]:
        """What to send along with a report: the signing key's certificate and a revocation list, as far as there."""
        return tuple(entry.data for entry in self.entries if entry.useful)


def _places(data: bytes) -> list[tuple[bytes, int, int]]:
    places: list[tuple[bytes, int, int]] = []
    for offset in range(0, _ENTRY_BYTES * (MAXIMUM_ENTRIES + 1), _ENTRY_BYTES):
        entry = data[offset : offset + _ENTRY_BYTES]
        if len(entry) < _ENTRY_BYTES:
            raise EvidenceMalformed(
                "certificate table", expected="a list of entries that ends in zeros", found=f"{len(data)} bytes"
            )
        if not any(entry):
            return places
        start, length = (int.from_bytes(entry[at : at + 4], "little") for at in (_GUID_BYTES, _GUID_BYTES + 4))
        places.append((entry[:_GUID_BYTES], start, start + length))
    raise EvidenceMalformed("certificate table", expected=f"at most {MAXIMUM_ENTRIES} entries", found="more")


def _zero(between: bytes) -> None:
    if any(between):
        raise EvidenceMalformed("certificate table", expected="zeros between its entries", found=between.hex()[:64])
