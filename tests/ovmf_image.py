"""Firmware files with what a launch measurement needs of OVMF: its table of GUIDs and its SEV metadata, and no code.

Layout: OvmfPkg/ResetVector (edk2), as `sevsnpmeasure.ovmf` reads it.
"""

import struct
import uuid

TABLE_FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
HASH_TABLE = uuid.UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
RESET_BLOCK = uuid.UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
METADATA = uuid.UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
MEMORY, SECRETS, CPUID, CALLING_AREA, KERNEL_HASHES = 1, 2, 3, 4, 0x10
_METADATA_FROM_END = 2048

AMD_SEV_SECTIONS = (
    (0x800000, 0x9000, MEMORY),
    (0x80A000, 0x3000, MEMORY),
    (0x80D000, 0x1000, SECRETS),
    (0x80E000, 0x1000, CPUID),
    (0x80F000, 0x1000, CALLING_AREA),
    (0x810000, 0x1000, KERNEL_HASHES),
    (0x811000, 0xF000, MEMORY),
)
"""OvmfPkg/AmdSev since it has a calling area for an SVSM."""
AMD_SEV_HASH_TABLE = 0x810C00
RESET_ADDRESS = 0x80B004


def ovmf(
    sections: tuple[tuple[int, int, int], ...] = AMD_SEV_SECTIONS,
    *,
    hash_table: int | None = AMD_SEV_HASH_TABLE,
    reset_address: int | None = RESET_ADDRESS,
    size: int = 4096,
) -> bytes:
    """A firmware file of `size` bytes with these sections (guest physical address, size, type)."""
    metadata = b"ASEV" + struct.pack("<III", 16 + 12 * len(sections), 1, len(sections))
    metadata += b"".join(struct.pack("<III", *section) for section in sections)
    table = _entry(METADATA, struct.pack("<I", _METADATA_FROM_END))
    if hash_table is not None:
        table += _entry(HASH_TABLE, struct.pack("<II", hash_table, 0x400))
    if reset_address is not None:
        table += _entry(RESET_BLOCK, struct.pack("<I", reset_address))
    tail = table + struct.pack("<H", len(table) + 18) + TABLE_FOOTER.bytes_le + bytes(32)
    image = bytearray(size)
    image[-len(tail) :] = tail
    image[size - _METADATA_FROM_END : size - _METADATA_FROM_END + len(metadata)] = metadata
    return bytes(image)


def _entry(guid: uuid.UUID, data: bytes) -> bytes:
    return data + struct.pack("<H", len(data) + 18) + guid.bytes_le
