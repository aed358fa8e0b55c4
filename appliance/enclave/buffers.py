"""Memory for chunks: allocated once a worker, seen as bytes by the cipher and as a tensor by the equations.

Both views share torch-owned memory, so that decryption puts a chunk where the arithmetic reads it, without a copy.
What has been in here is plaintext: `wipe` before letting go.
"""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from protocol.layout import Chunk, Section


class ChunkBuffer:
    """Room for any one chunk of a model."""

    def __init__(self, size_bytes: int) -> None:
        if sys.byteorder != "little":
            raise RuntimeError("chunks are little-endian arrays and used in place: this needs a little-endian machine")
        self._raw = torch.zeros(size_bytes, dtype=torch.uint8)
        self._bytes = self._raw.numpy().data

    def bytes_for(self, chunk: Chunk) -> memoryview:
        """The chunk's wire form, to decrypt into, hash or seal from."""
        return self._bytes[: chunk.size_bytes]

    def values_for(self, chunk: Chunk) -> Tensor:
        """The same memory as a 1-D tensor: int64 in `INTEGER_BUFFERS`, float32 elsewhere."""
        dtype = torch.int64 if chunk.section is Section.INTEGER_BUFFERS else torch.float32
        return self._raw[: chunk.size_bytes].view(dtype)

    def wipe(self) -> None:
        """Overwrite with zeros."""
        self._raw.zero_()


class Scratch:
    """Three float64 vectors for the equations of one chunk: two sums and a term."""

    def __init__(self, coordinates: int) -> None:
        self._vectors = tuple(torch.zeros(coordinates, dtype=torch.float64) for _ in range(3))

    def take(self, coordinates: int) -> tuple[Tensor, Tensor, Tensor]:
        """The first `coordinates` of each, with whatever values they had."""
        first, second, third = self._vectors
        return first[:coordinates], second[:coordinates], third[:coordinates]

    def wipe(self) -> None:
        """Overwrite with zeros."""
        for vector in self._vectors:
            vector.zero_()


def largest_chunk_bytes(chunks: Sequence[Chunk]) -> int:
    """What one `ChunkBuffer` must hold for all of them."""
    return max(chunk.size_bytes for chunk in chunks)


def largest_chunk_coordinates(chunks: Sequence[Chunk]) -> int:
    """What `Scratch` and `SquareSum` must hold for all of them."""
    return max(chunk.coordinates for chunk in chunks)
