"""A federation without network, log or clock: silos seal updates, the enclave's code inspects and merges them.

Models are dictionaries of NumPy vectors by section, so that tests state expectations in NumPy alone.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

import protocol.layout
from appliance.enclave.inspect import Inspection, inspect_update
from appliance.enclave.merge import Contribution, Merged, MergeInputs, MergeOutputs, SealedBody, merge
from appliance.enclave.strategies import strategy_for
from protocol.agreement_terms import Strategy, Training, UpdateTerms
from protocol.keys import SealingKey, SigningKey
from protocol.layout import Layout, Role, Section, Tensor, content_digest
from protocol.sealing import (
    ANY,
    BlobHeader,
    BlobKind,
    BlobReader,
    BlobWriter,
    ByteSource,
    ContentKey,
    ExpectedHeader,
    MemoryBytes,
    wrap_content_key,
)
from protocol.update import UpdateMetadata

Vectors = dict[Section, np.ndarray]
DTYPES = {Section.INTEGER_BUFFERS: "<i8"}
APPLIANCE = SigningKey(b"e" * 32)
ENCLAVE = SealingKey(b"x" * 96)


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    torch.set_num_threads(1)


def layout_of(parameters: int, float_buffers: int = 0, integer_buffers: int = 0, frozen: int = 0) -> Layout:
    tensors = [Tensor(name="weight", shape=(parameters,), dtype="float32", role=Role.PARAMETER)]
    if float_buffers:
        tensors.append(Tensor(name="mean", shape=(float_buffers,), dtype="float32", role=Role.BUFFER))
    if integer_buffers:
        tensors.append(Tensor(name="seen", shape=(integer_buffers,), dtype="int64", role=Role.BUFFER))
    if frozen:
        tensors.append(Tensor(name="table", shape=(frozen,), dtype="float32", role=Role.FROZEN))
    return Layout(tensors=tuple(tensors))


@dataclass
class Federation:
    """Silos with their weights, the current model and control, and the agreement's terms."""

    layout: Layout
    weights: Mapping[str, float]
    training: Training
    terms: UpdateTerms
    model: SealedBody = field(init=False)
    control: SealedBody | None = field(init=False, default=None)
    identities: dict[str, SigningKey] = field(init=False)

    def __post_init__(self) -> None:
        self.identities = {silo: SigningKey(os.urandom(32)) for silo in self.weights}
        self.model = self.seal_body(BlobKind.MODEL, self.zeros())

    def zeros(self) -> Vectors:
        return {section: np.zeros(self.layout.coordinates(section), DTYPES.get(section, "<f4")) for section in Section}

    def start(self, model: Vectors) -> None:
        """Replace the current model; the control is zero again."""
        self.model, self.control = self.seal_body(BlobKind.MODEL, model), None

    def header(self, kind: BlobKind, sender: str) -> BlobHeader:
        return BlobHeader(
            kind=kind,
            agreement=b"a" * 32,
            origin="simulated.example/log",
            boot_id=b"b" * 32,
            round=1,
            attempt=1,
            sender=sender,
            upload_id=os.urandom(16),
            base_model=b"m" * 32,
            layout=self.layout.digest,
            encoding="float32",
            parent=None,
        )

    def expected(self, silo: str) -> ExpectedHeader:
        return ExpectedHeader(
            kind=BlobKind.UPDATE,
            agreement=b"a" * 32,
            origin="simulated.example/log",
            boot_id=b"b" * 32,
            round=1,
            attempt=1,
            sender=silo,
            upload_id=ANY,
            base_model=b"m" * 32,
            layout=self.layout.digest,
            encoding="float32",
            parent=None,
        )

    def plaintexts(self, kind: BlobKind, vectors: Vectors) -> list[bytes]:
        """The wire form of every chunk."""
        return [
            vectors[chunk.section][chunk.start : chunk.start + chunk.coordinates]
            .astype(DTYPES.get(chunk.section, "<f4"))
            .tobytes()
            for chunk in kind.chunks_of(self.layout)
        ]

    def seal_body(self, kind: BlobKind, vectors: Vectors) -> SealedBody:
        """A model or control as the enclave keeps it."""
        key, sink = ContentKey.fresh(os.urandom), MemoryBytes()
        writer = BlobWriter(self.header(kind, "appliance"), kind.chunks_of(self.layout), sink, key)
        plaintexts = self.plaintexts(kind, vectors)
        for position, plaintext in enumerate(plaintexts):
            writer.seal_chunk(position, plaintext)
        writer.finish(APPLIANCE)
        content = content_digest(self.layout.digest, [protocol.layout.sha256(chunk).digest() for chunk in plaintexts])
        return self.body(kind, sink, key, content)

    def body(self, kind: BlobKind, source: ByteSource, key: ContentKey, content: bytes) -> SealedBody:
        reader = BlobReader(source, kind.chunks_of(self.layout))
        reader.authenticate(APPLIANCE.public)
        return SealedBody(reader=reader, content_key=key, content=content)

    def seal_update(
        self, silo: str, parameters: np.ndarray | Vectors, *, steps: int = 1, step_size_sum: float | None = None
    ) -> MemoryBytes:
        """What a silo uploads."""
        vectors = parameters if isinstance(parameters, dict) else {**self.zeros(), Section.PARAMETERS: parameters}
        size = self.training.learning_rate * steps if step_size_sum is None else step_size_sum
        metadata = UpdateMetadata(steps=steps, step_size_sum=size, metrics={"loss": 0.5})
        return self.seal_raw(silo, self.plaintexts(BlobKind.UPDATE, vectors), metadata.encode())[0]

    def seal_raw(
        self, silo: str, plaintexts: Sequence[bytes], metadata: bytes, **changes: object
    ) -> tuple[MemoryBytes, ContentKey]:
        """The same from raw chunks and metadata, with header fields changed."""
        header = replace(self.header(BlobKind.UPDATE, silo), **changes)  # type: ignore[arg-type]
        key, sink = ContentKey.fresh(os.urandom), MemoryBytes()
        wrap = wrap_content_key(key, header, ENCLAVE.public)
        writer = BlobWriter(header, self.layout.update_chunks, sink, key, wrap, metadata)
        for position, plaintext in enumerate(plaintexts):
            writer.seal_chunk(position, plaintext)
        writer.finish(self.identities[silo])
        return sink, key

    def inspect(self, silo: str, source: ByteSource) -> Inspection:
        """What the enclave does with a complete upload."""
        return inspect_update(
            source,
            self.layout,
            sender=self.identities[silo].public,
            recipient=ENCLAVE,
            expected=self.expected(silo),
            training=self.training,
            terms=self.terms,
        )

    def inputs(self, inspections: Mapping[str, Inspection]) -> MergeInputs:
        """A cohort in the agreement's order, whatever order its updates came in."""
        return MergeInputs(
            layout=self.layout,
            model=self.model,
            control=self.control,
            contributions=tuple(
                Contribution(silo=silo, weight=weight, inspection=inspections[silo])
                for silo, weight in self.weights.items()
                if silo in inspections
            ),
            total_weight=sum(self.weights.values()),
        )

    def merge(self, inspections: Mapping[str, Inspection], *, threads: int = 1) -> Merged:
        """Close a round: afterwards `model` and `control` are the next ones."""
        strategy = strategy_for(self.training)
        keys = [ContentKey.fresh(os.urandom) for _ in range(2)]
        sinks = [MemoryBytes() for _ in range(2)]
        model = BlobWriter(self.header(BlobKind.MODEL, "appliance"), self.layout.chunks, sinks[0], keys[0])
        control = None
        if strategy.has_control:
            chunks = self.layout.control_chunks
            control = BlobWriter(self.header(BlobKind.CONTROL, "appliance"), chunks, sinks[1], keys[1])
        outputs = MergeOutputs(model=model, control=control)
        merged = merge(self.inputs(inspections), outputs, strategy, threads=threads)
        model.finish(APPLIANCE)
        self.model = self.body(BlobKind.MODEL, sinks[0], keys[0], merged.model)
        if control is not None and merged.control is not None:
            control.finish(APPLIANCE)
            self.control = self.body(BlobKind.CONTROL, sinks[1], keys[1], merged.control)
        return merged

    def round(self, updates: Mapping[str, MemoryBytes], *, threads: int = 1) -> Merged:
        """Inspect and merge."""
        return self.merge({silo: self.inspect(silo, update) for silo, update in updates.items()}, threads=threads)

    def opened(self, kind: BlobKind = BlobKind.MODEL) -> Vectors:
        """The current model or control (zeros while there is none) in the clear."""
        body = self.model if kind is BlobKind.MODEL else self.control
        vectors = self.zeros()
        if body is None:
            return vectors
        for chunk in kind.chunks_of(self.layout):
            buffer = bytearray(chunk.size_bytes)
            body.reader.open_chunk(chunk.index, body.content_key, memoryview(buffer))
            values = np.frombuffer(buffer, vectors[chunk.section].dtype)
            vectors[chunk.section][chunk.start : chunk.start + chunk.coordinates] = values
        return vectors

    @property
    def x(self) -> np.ndarray:
        """The current parameters (float32)."""
        return self.opened()[Section.PARAMETERS]

    @property
    def c(self) -> np.ndarray:
        """The current control variate (float32)."""
        return self.opened(BlobKind.CONTROL)[Section.PARAMETERS]


@pytest.fixture
def federate(monkeypatch: pytest.MonkeyPatch) -> object:
    """Build a federation; `chunk` is the number of coordinates a chunk."""

    def build(
        weights: Iterable[float] = (1.0, 1.0, 1.0),
        *,
        strategy: str = "scaffold",
        parameters: int = 20,
        float_buffers: int = 0,
        integer_buffers: int = 0,
        frozen: int = 0,
        chunk: int = 8,
        local_steps: int = 100,
        learning_rate: float = 0.1,
        server_learning_rate: float = 1.0,
        maximum_norm: float = 1e6,
    ) -> Federation:
        monkeypatch.setattr(protocol.layout, "CHUNK_COORDINATES", chunk)
        return Federation(
            layout=layout_of(parameters, float_buffers, integer_buffers, frozen),
            weights={f"silo-{number}": weight for number, weight in enumerate(weights)},
            training=Training(
                strategy=Strategy(strategy),
                local_steps=local_steps,
                learning_rate=learning_rate,
                server_learning_rate=server_learning_rate,
                proximal_mu=0.1 if strategy == "fedprox" else None,
            ),
            terms=UpdateTerms(encoding="float32", maximum_norm=maximum_norm),
        )

    return build
