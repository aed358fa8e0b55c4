"""One thread's share of a merge: take a chunk, combine it across the cohort, write it, take the next.

A column is the same chunk of every blob. A worker allocates its buffers once and wipes them at the end.
"""

import math
import threading
from array import array
from collections.abc import Sequence

from torch import Tensor

from appliance.enclave.buffers import ChunkBuffer, Scratch, largest_chunk_bytes, largest_chunk_coordinates
from appliance.enclave.content import ChunkHashes
from appliance.enclave.merge_inputs import MergeInputs, MergeOutputs, UpdateChanged
from appliance.enclave.norm import SquareSum
from appliance.enclave.strategies.base import Strategy
from appliance.enclave.strategies.mean import maximum_into, weighted_mean_into
from protocol.errors import ProtocolError, RefusalCode, refuse
from protocol.layout import Chunk, Layout, Rule
from protocol.sealing.content_key import TAG_BYTES


class Claims:
    """Hands out chunks, each once, to whichever thread asks next, until none is left or somebody failed."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks
        self._next = 0
        self._end = len(chunks)
        self._lock = threading.Lock()

    def take(self) -> Chunk | None:
        """The next chunk, or None."""
        with self._lock:
            if self._next >= self._end:
                return None
            self._next += 1
            return self._chunks[self._next - 1]

    def stop(self) -> None:
        """Hand out no more."""
        with self._lock:
            self._end = 0


class Findings:
    """What the workers found, by chunk; read when all are done."""

    def __init__(self, layout: Layout, silos: int) -> None:
        chunks, parameters = len(layout.chunks), len(layout.control_chunks)
        self.old_model = ChunkHashes(chunks)
        self.new_model = ChunkHashes(chunks)
        self.old_control = ChunkHashes(parameters)
        self.new_control = ChunkHashes(parameters)
        self.square_sums = [array("d", bytes(8 * parameters)) for _ in range(silos)]


class Worker:
    """The buffers and the loop of one thread."""

    def __init__(
        self, inputs: MergeInputs, outputs: MergeOutputs, strategy: Strategy, claims: Claims, findings: Findings
    ) -> None:
        size = largest_chunk_bytes(inputs.layout.chunks)
        coordinates = largest_chunk_coordinates(inputs.layout.chunks)
        self._inputs = inputs
        self._outputs = outputs
        self._strategy = strategy
        self._claims = claims
        self._findings = findings
        self._cohort = inputs.cohort
        self._model = ChunkBuffer(size)
        self._control = ChunkBuffer(size)
        self._updates = [ChunkBuffer(size) for _ in inputs.contributions]
        self._scratch = Scratch(coordinates)
        self._square_sum = SquareSum(coordinates)
        self._ciphertext = memoryview(bytearray(size + TAG_BYTES))

    def run(self) -> None:
        """Work until no chunk is left; on any error, the other workers stop too."""
        try:
            while (chunk := self._claims.take()) is not None:
                self._column(chunk)
        except BaseException:
            self._claims.stop()
            raise
        finally:
            self._wipe()

    def _column(self, chunk: Chunk) -> None:
        self._open_model(chunk)
        model = self._model.values_for(chunk)
        match chunk.section.rule:
            case Rule.TRAIN:
                control = self._open_control(chunk)
                updates = self._open_updates(chunk)
                self._strategy.combine(model, control, updates, self._cohort, self._scratch)
                self._write_control(chunk)
            case Rule.MEAN:
                updates = self._open_updates(chunk)
                total, term, _ = self._scratch.take(chunk.coordinates)
                weighted_mean_into(model, updates, self._cohort, total, term)
            case Rule.MAXIMUM:
                maximum_into(model, self._open_updates(chunk))
            case Rule.KEEP:
                pass
        self._write_model(chunk)

    def _open_model(self, chunk: Chunk) -> None:
        body, plaintext = self._inputs.model, self._model.bytes_for(chunk)
        body.reader.open_chunk(chunk.index, body.content_key, plaintext, self._ciphertext)
        self._findings.old_model.put(chunk.index, plaintext)

    def _open_control(self, chunk: Chunk) -> Tensor | None:
        if self._outputs.control is None:
            return None
        body, plaintext, values = self._inputs.control, self._control.bytes_for(chunk), self._control.values_for(chunk)
        if body is None:
            return values.zero_()
        body.reader.open_chunk(chunk.index, body.content_key, plaintext, self._ciphertext)
        self._findings.old_control.put(chunk.index, plaintext)
        return values

    def _open_updates(self, chunk: Chunk) -> list[Tensor]:
        opened = []
        for position, (contribution, buffer) in enumerate(zip(self._inputs.contributions, self._updates, strict=True)):
            inspection = contribution.inspection
            try:
                plaintext = buffer.bytes_for(chunk)
                inspection.reader.open_chunk(chunk.index, inspection.content_key, plaintext, self._ciphertext)
            except ProtocolError as error:
                raise UpdateChanged(contribution.silo, str(error)) from error
            values = buffer.values_for(chunk)
            if chunk.section.rule is not Rule.MAXIMUM:
                squares = self._square_sum.of(values)
                if not math.isfinite(squares):
                    raise UpdateChanged(contribution.silo, "numbers that are not finite")
                if chunk.section.rule is Rule.TRAIN:
                    self._findings.square_sums[position][chunk.index] = squares
            opened.append(values)
        return opened

    def _write_model(self, chunk: Chunk) -> None:
        if chunk.section.rule in (Rule.TRAIN, Rule.MEAN):
            self._require_finite(self._model, chunk)
        plaintext = self._model.bytes_for(chunk)
        self._findings.new_model.put(chunk.index, plaintext)
        self._outputs.model.seal_chunk(chunk.index, plaintext, self._ciphertext)

    def _write_control(self, chunk: Chunk) -> None:
        if self._outputs.control is None:
            return
        self._require_finite(self._control, chunk)
        plaintext = self._control.bytes_for(chunk)
        self._findings.new_control.put(chunk.index, plaintext)
        self._outputs.control.seal_chunk(chunk.index, plaintext, self._ciphertext)

    def _require_finite(self, buffer: ChunkBuffer, chunk: Chunk) -> None:
        if not math.isfinite(self._square_sum.of(buffer.values_for(chunk))):
            raise refuse(
                RefusalCode.UPDATE_NOT_FINITE,
                expected="a next model of finite numbers",
                found=f"an overflow of float32 among the {chunk.section}",
                remedy="the agreement's maximum_norm and learning rates allow steps that are too long",
            )

    def _wipe(self) -> None:
        for buffer in (self._model, self._control, *self._updates):
            buffer.wipe()
        self._scratch.wipe()
        self._square_sum.wipe()
