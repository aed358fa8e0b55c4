"""The layout of a model: names, shapes and dtypes, and where each coordinate lies in the equal-size chunks.

`layout.json` travels beside the agreement, which names it by digest. It is read before the digest is compared, so every
size is bounded and nothing is allocated by it: chunks are arithmetic. The enclave, the silos, the blob code and the
auditor all derive their offsets from here. Imports neither numpy nor torch.

A model is four flat vectors, its sections. Each begins a new chunk, so that a chunk has one dtype and one rule. On the
wire and on disk a chunk is the little-endian array of its coordinates.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import overload

from attestation.encoding import labelled_digest
from protocol import canonical
from protocol.errors import MalformedError
from protocol.fields import Fields

CHUNK_COORDINATES = 2**18
MAXIMUM_TENSORS = 100_000
MAXIMUM_DIMENSIONS = 32
MAXIMUM_COORDINATES = 2**40
MAXIMUM_NAME_CHARACTERS = 512
LIMIT_BYTES = 2**26

FLOATS = ("float32", "float16", "bfloat16")
INTEGERS = ("bool", "uint8", "int8", "int16", "int32", "int64")
_EXACT_IN_FLOAT32 = (*FLOATS, "bool", "uint8", "int8", "int16")
_KIND = "strongroom-layout"


class Role(StrEnum):
    """What a tensor is to the model."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    FROZEN = "frozen"


class Rule(StrEnum):
    """What aggregation does with a coordinate."""

    TRAIN = "train"
    MEAN = "mean"
    MAXIMUM = "maximum"
    KEEP = "keep"


class Section(StrEnum):
    """One flat vector of the model; the order here is the order of the chunks."""

    PARAMETERS = "parameters"
    FLOAT_BUFFERS = "float-buffers"
    INTEGER_BUFFERS = "integer-buffers"
    FROZEN = "frozen"

    @property
    def coordinate_bytes(self) -> int:
        """8 for int64 (`INTEGER_BUFFERS`), 4 for float32 (all others)."""
        return 8 if self is Section.INTEGER_BUFFERS else 4

    @property
    def rule(self) -> Rule:
        """How the silos' values of this section become one."""
        return _RULES[self]


_RULES = {
    Section.PARAMETERS: Rule.TRAIN,
    Section.FLOAT_BUFFERS: Rule.MEAN,
    Section.INTEGER_BUFFERS: Rule.MAXIMUM,
    Section.FROZEN: Rule.KEEP,
}
_DTYPES = {
    Section.PARAMETERS: FLOATS,
    Section.FLOAT_BUFFERS: FLOATS,
    Section.INTEGER_BUFFERS: INTEGERS,
    Section.FROZEN: _EXACT_IN_FLOAT32,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One named tensor in its original shape and dtype; an alias shares the coordinates of the tensor it names."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Role
    alias: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAXIMUM_NAME_CHARACTERS or not self.name.isprintable():
            raise MalformedError(
                f"layout: a tensor's name: expected 1 to {MAXIMUM_NAME_CHARACTERS} printable characters, "
                f"found {self.name[:80]!r}"
            )
        if len(self.shape) > MAXIMUM_DIMENSIONS or not all(0 <= size <= MAXIMUM_COORDINATES for size in self.shape):
            raise self._error(
                "shape", f"at most {MAXIMUM_DIMENSIONS} dimensions of 0 to 2^40", str(list(self.shape[:8]))
            )
        if self.dtype not in _DTYPES[self.section]:
            raise self._error("dtype", f"one of {', '.join(_DTYPES[self.section])} in role {self.role}", self.dtype)

    def _error(self, key: str, expected: str, found: str) -> MalformedError:
        return MalformedError(f"layout: tensor {self.name!r} {key}: expected {expected}, found {found[:80]}")

    @property
    def section(self) -> Section:
        """The section that holds the tensor's coordinates."""
        if self.role is Role.PARAMETER:
            return Section.PARAMETERS
        if self.role is Role.FROZEN:
            return Section.FROZEN
        return Section.INTEGER_BUFFERS if self.dtype in INTEGERS else Section.FLOAT_BUFFERS

    @property
    def coordinates(self) -> int:
        """The number of elements: 1 for a scalar, 0 where a dimension is 0. An alias counts its target's."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """At most `CHUNK_COORDINATES` neighbouring coordinates of one section."""

    index: int
    section: Section
    start: int
    coordinates: int

    @property
    def size_bytes(self) -> int:
        """Length of the chunk's little-endian array."""
        return self.coordinates * self.section.coordinate_bytes


@dataclass(frozen=True, slots=True)
class Chunks(Sequence[Chunk]):
    """The chunks of some sections in order, computed when asked for: it costs nothing to hold, whatever the model."""

    counts: tuple[tuple[Section, int], ...]

    def __len__(self) -> int:
        return sum(_chunks_in(coordinates) for _, coordinates in self.counts)

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Chunk, ...]: ...
    def __getitem__(self, index: int | slice) -> Chunk | tuple[Chunk, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        wanted = index + len(self) if index < 0 else index
        position = wanted
        for section, coordinates in self.counts:
            chunks = _chunks_in(coordinates)
            if 0 <= position < chunks:
                start = position * CHUNK_COORDINATES
                length = min(CHUNK_COORDINATES, coordinates - start)
                return Chunk(index=wanted, section=section, start=start, coordinates=length)
            position -= chunks
        raise IndexError(f"chunk {index} of {len(self)}")

    def __iter__(self) -> Iterator[Chunk]:
        index = 0
        for section, coordinates in self.counts:
            for start in range(0, coordinates, CHUNK_COORDINATES):
                length = min(CHUNK_COORDINATES, coordinates - start)
                yield Chunk(index=index, section=section, start=start, coordinates=length)
                index += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A model's tensors in order. The constructor and `parse` make the same checks and raise `MalformedError`.

    Names are unique; an alias names an earlier tensor, itself no alias, of the same shape, dtype and role; at least one
    coordinate is trainable; at most 100,000 tensors and 2⁴⁰ coordinates.
    """

    tensors: tuple[Tensor, ...]
    _counts: dict[Section, int] = field(init=False, repr=False, compare=False)
    _encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.tensors) <= MAXIMUM_TENSORS:
            raise MalformedError(f"layout: expected 1 to {MAXIMUM_TENSORS} tensors, found {len(self.tensors)}")
        counts = dict.fromkeys(Section, 0)
        earlier: dict[str, Tensor] = {}
        for tensor in self.tensors:
            if tensor.name in earlier:
                raise MalformedError(f"layout: expected unique tensor names, found {tensor.name!r} twice")
            if tensor.alias is None:
                counts[tensor.section] += tensor.coordinates
            else:
                _check_alias(tensor, earlier.get(tensor.alias))
            earlier[tensor.name] = tensor
        if sum(counts.values()) > MAXIMUM_COORDINATES:
            raise MalformedError(f"layout: expected at most 2^40 coordinates, found {sum(counts.values())}")
        if not counts[Section.PARAMETERS]:
            raise MalformedError("layout: expected at least one trainable coordinate, found none")
        object.__setattr__(self, "_counts", counts)
        object.__setattr__(self, "_encoded", _encode(self.tensors))

    def encode(self) -> bytes:
        """The canonical JSON bytes: the contents of `layout.json`."""
        return self._encoded

    @classmethod
    def parse(cls, data: bytes) -> "Layout":
        """Read `layout.json`; raises `MalformedError` on anything but the canonical bytes of a valid layout."""
        fields = Fields(canonical.decode(data, limit_bytes=LIMIT_BYTES), "layout")
        fields.literal("kind", _KIND)
        fields.literal("version", 1)
        tables = fields.tables("tensors", minimum=1, maximum=MAXIMUM_TENSORS)
        fields.close()
        return cls(tensors=tuple(_parse_tensor(table) for table in tables))

    @property
    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of `layout.json`, as `sha256sum` prints it and as the agreement names it."""
        return sha256(self._encoded).digest()

    @property
    def chunks(self) -> Chunks:
        """All chunks of the model, section after section."""
        return self._chunks(tuple(Section))

    @property
    def update_chunks(self) -> Chunks:
        """What a silo sends: everything but `FROZEN`. Indices agree with `chunks`."""
        return self._chunks((Section.PARAMETERS, Section.FLOAT_BUFFERS, Section.INTEGER_BUFFERS))

    @property
    def control_chunks(self) -> Chunks:
        """What a control variate has: `PARAMETERS` only. Indices agree with `chunks`."""
        return self._chunks((Section.PARAMETERS,))

    def _chunks(self, sections: tuple[Section, ...]) -> Chunks:
        return Chunks(tuple((section, self._counts[section]) for section in sections))

    def coordinates(self, section: Section) -> int:
        """Length of a section's flat vector."""
        return self._counts[section]

    def tensors_in(self, section: Section) -> Iterator[tuple[Tensor, int]]:
        """The tensors of a section in order, each with the offset of its first coordinate; aliases left out."""
        offset = 0
        for tensor in self.tensors:
            if tensor.section is section and tensor.alias is None:
                yield tensor, offset
                offset += tensor.coordinates


def content_digest(layout_digest: bytes, chunk_hashes: Sequence[bytes]) -> bytes:
    """The digest of a model: its layout's digest and the SHA-256 of every chunk's plaintext, in order."""
    return labelled_digest("strongroom/content/v1", layout_digest, *chunk_hashes)


def _chunks_in(coordinates: int) -> int:
    return -(-coordinates // CHUNK_COORDINATES)


def _check_alias(tensor: Tensor, target: Tensor | None) -> None:
    if target is None or target.alias is not None:
        found = "no such tensor" if target is None else "an alias"
        raise MalformedError(
            f"layout: tensor {tensor.name!r} alias: expected an earlier tensor that is no alias, "
            f"found {found} ({str(tensor.alias)[:80]!r})"
        )
    if (tensor.shape, tensor.dtype, tensor.role) != (target.shape, target.dtype, target.role):
        raise MalformedError(
            f"layout: tensor {tensor.name!r} alias: expected the shape, dtype and role of {target.name!r}, found others"
        )


def _encode(tensors: tuple[Tensor, ...]) -> bytes:
    rows: list[canonical.Json] = [
        {
            "alias": tensor.alias,
            "dtype": tensor.dtype,
            "name": tensor.name,
            "role": tensor.role.value,
            "rule": tensor.section.rule.value,
            "shape": tensor.shape,
        }
        for tensor in tensors
    ]
    return canonical.encode({"kind": _KIND, "version": 1, "tensors": rows})


def _parse_tensor(fields: Fields) -> Tensor:
    shape = fields.items("shape", maximum=MAXIMUM_DIMENSIONS)
    sizes = tuple(size for size in shape if type(size) is int)
    if len(sizes) != len(shape):
        raise fields.error("shape", "a list of integers", shape)
    alias = fields.take("alias", "null or a tensor's name")
    if alias is not None and not isinstance(alias, str):
        raise fields.error("alias", "null or a tensor's name", alias)
    tensor = Tensor(
        name=fields.text("name", limit=MAXIMUM_NAME_CHARACTERS),
        shape=sizes,
        dtype=fields.choice("dtype", tuple(dict.fromkeys((*FLOATS, *INTEGERS)))),
        role=Role(fields.choice("role", tuple(Role))),
        alias=alias,
    )
    fields.literal("rule", tensor.section.rule.value)
    fields.close()
    return tensor
