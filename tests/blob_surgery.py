"""Taking sealed blobs apart: where everything lies in one, and what somebody who holds its key can do to it."""

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocol.keys import SIGNATURE_BYTES
from protocol.layout import Chunks
from protocol.sealing import MemoryBytes
from protocol.sealing.content_key import TAG_BYTES
from protocol.sealing.geometry import MAGIC, Geometry, read_prelude

METADATA = 0
"""The segment of the metadata; that of the chunk at position i is i + 1."""


@dataclass(frozen=True)
class Anatomy:
    """A blob's bytes by their parts, over the chunks of its kind and layout."""

    blob: bytes
    chunks: Chunks

    @property
    def header(self) -> slice:
        """The header's JSON."""
        start = len(MAGIC) + 4
        return slice(start, start + len(read_prelude(MemoryBytes(self.blob))[0]))

    @property
    def wrap(self) -> slice:
        """The wrapped content key."""
        start = self.header.stop + 4
        return slice(start, start + len(read_prelude(MemoryBytes(self.blob))[1]))

    def text(self, segment: int) -> slice:
        """A segment's ciphertext, without its tag."""
        return slice(self._geometry.offset(segment), self._geometry.tag_offset(segment))

    def tag(self, segment: int) -> slice:
        """A segment's tag."""
        start = self._geometry.tag_offset(segment)
        return slice(start, start + TAG_BYTES)

    def whole(self, segment: int) -> slice:
        """A segment: ciphertext and tag."""
        return slice(self.text(segment).start, self.tag(segment).stop)

    @property
    def signature(self) -> slice:
        """The sender's signature."""
        return slice(len(self.blob) - SIGNATURE_BYTES, len(self.blob))

    def flipped(self, part: slice, place: int = 0) -> bytes:
        """With one bit of a part changed."""
        return self.replaced(part, bytes([self.blob[part][place] ^ 1]), place)

    def replaced(self, part: slice, data: bytes, place: int = 0) -> bytes:
        """With other bytes in a part, from `place` on."""
        start = part.start + place
        assert start + len(data) <= part.stop
        return self.blob[:start] + data + self.blob[start + len(data) :]

    def swapped(self, one: slice, other: slice) -> bytes:
        """With two parts of one length in each other's place."""
        return Anatomy(self.replaced(one, self.blob[other]), self.chunks).replaced(other, self.blob[one])

    def under_one_tag(self, key: bytes, position: int, wanted: bytes) -> bytes:
        """With another ciphertext of a chunk under the same key, nonce and tag; its plaintext begins with `wanted`."""
        segment = position + 1
        last = b"\x01" if self._geometry.is_last(segment) else b"\x00"
        part = self.text(segment)
        blocks = other_blocks(key, segment.to_bytes(11, "big") + last, self.blob[part][:32], wanted)
        return self.replaced(part, blocks)

    @property
    def _geometry(self) -> Geometry:
        header, wrap = read_prelude(MemoryBytes(self.blob))
        return Geometry(len(header), len(wrap), self.chunks)


def other_blocks(key: bytes, nonce: bytes, old_blocks: bytes, wanted: bytes) -> bytes:
    """Two ciphertext blocks in place of a segment's first two, whose plaintext begins with `wanted`, or very nearly.

    GHASH is linear: Δ₀ on the first block is made up for by Δ₁ = Δ₀ · H on the second, and the tag stays. Low bits of
    `wanted` are varied until what the second block becomes is finite as float32.
    """
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    subkey = int.from_bytes(block.update(bytes(16)), "big")
    stream = [int.from_bytes(block.update(nonce + counter.to_bytes(4, "big")), "big") for counter in (2, 3)]
    old = [int.from_bytes(old_blocks[offset : offset + 16], "big") for offset in (0, 16)]
    for variation in range(256):
        delta = old[0] ^ stream[0] ^ int.from_bytes(bytes([wanted[0] ^ variation]) + wanted[1:], "big")
        new = [old[0] ^ delta, old[1] ^ multiply(delta, subkey)]
        second = np.frombuffer((new[1] ^ stream[1]).to_bytes(16, "big"), "<f4")
        if (np.abs(second) < 1e15).all():
            return b"".join(value.to_bytes(16, "big") for value in new)
    raise AssertionError("expected one of 256 variations to be finite")


def multiply(left: int, right: int) -> int:
    """GF(2^128) as GCM writes it (SP 800-38D, algorithm 1)."""
    product = 0
    for bit in range(127, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (0xE1 << 120 if right & 1 else 0)
    return product
