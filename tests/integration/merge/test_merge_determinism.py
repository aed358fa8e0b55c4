"""The same bits for any number of threads and any order of arrival, and memory that doesn't grow with the model."""

import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from appliance.enclave import columns
from appliance.enclave.buffers import ChunkBuffer
from appliance.enclave.merge import MergeOutputs, merge
from appliance.enclave.norm import SquareSum, norm_of
from appliance.enclave.strategies import strategy_for
from protocol.layout import Section
from protocol.sealing import BlobKind, BlobWriter, ContentKey


def wild(generator: np.random.Generator, size: int) -> np.ndarray:
    """Numbers of very different sizes, whose float32 sum depends on the order."""
    return (generator.normal(0, 1, size) * 10.0 ** generator.integers(-6, 6, size)).astype(np.float32)


@pytest.mark.parametrize("strategy", ["scaffold", "fedavg"])
def test_threads_and_arrival_order_do_not_change_a_bit(federate: Any, strategy: str) -> None:
    """Property (e)."""
    generator = np.random.default_rng(1)
    federation = federate([1.0, 2.0, 3.0] * 3, strategy=strategy, parameters=1000, float_buffers=100, chunk=64)
    federation.start({**federation.zeros(), Section.PARAMETERS: wild(generator, 1000)})
    updates = {
        silo: federation.seal_update(
            silo,
            {
                **federation.zeros(),
                Section.PARAMETERS: wild(generator, 1000),
                Section.FLOAT_BUFFERS: wild(generator, 100),
            },
            steps=1 + number,
        )
        for number, silo in enumerate(federation.weights)
    }
    model, control = federation.model, federation.control
    results = set()
    for threads in (1, 2, 3, 8, 1, 2):
        federation.model, federation.control = model, control
        arrival = random.Random(threads).sample(list(updates), len(updates))
        merged = federation.round({silo: updates[silo] for silo in arrival}, threads=threads)
        results.add((merged.model, merged.control))
    assert len(results) == 1


def test_a_sum_in_arrival_order_would_change_bits() -> None:
    """The control of the test above: with plain float32 sums these numbers do depend on the order."""
    generator = np.random.default_rng(1)
    vectors = [wild(generator, 1000) for _ in range(9)]
    sums = set()
    for seed in range(6):
        total = np.zeros(1000, np.float32)
        for vector in random.Random(seed).sample(vectors, len(vectors)):
            total += vector
        sums.add(total.tobytes())
    assert len(sums) == 6


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 1000, 4096, 5000])
def test_the_norm_is_right_and_the_same_wherever_the_chunk_lies(size: int) -> None:
    values = wild(np.random.default_rng(size), size)
    exact = float((values.astype(np.float64) ** 2).sum())
    found = set()
    for offset in (0, 1, 3):
        memory = torch.zeros(size + offset)
        memory[offset:] = torch.from_numpy(values)
        found.add(SquareSum(max(size, 5000)).of(memory[offset:]))
    assert len(found) == 1
    assert found.pop() == pytest.approx(exact, rel=1e-14)


def test_a_square_sum_does_not_remember_the_last_chunk() -> None:
    square_sum = SquareSum(1000)
    square_sum.of(torch.full((1000,), 1e30))
    assert square_sum.of(torch.ones(3)) == 3.0
    assert square_sum.of(torch.tensor([float("nan")])) != 0.0
    assert square_sum.of(torch.ones(513)) == 513.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_value_that_is_not_finite_shows(bad: float, place: int) -> None:
    values = torch.full((1000,), 3.4e38)
    assert np.isfinite(SquareSum(1000).of(values))
    values[place] = bad
    assert not np.isfinite(SquareSum(1000).of(values))


def test_the_norm_does_not_depend_on_the_order_of_chunks() -> None:
    sums = [10.0**exponent for exponent in range(-20, 21)]
    assert len({norm_of(random.Random(seed).sample(sums, len(sums))) for seed in range(20)}) == 1


class FileBytes:
    """A source and sink on disk, so that memory is ours alone."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        assert os.preadv(self._descriptor, [buffer], offset) == len(buffer)

    def write_at(self, offset: int, data: bytes) -> None:
        assert os.pwrite(self._descriptor, data, offset) == len(data)


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_does_not_grow_with_the_model(
    federate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int
) -> None:
    """Tensors are counted where they are made, everything else by tracemalloc; blobs lie on disk."""
    chunk = 2**14
    silos = 3
    made: list[int] = []

    class CountedBuffer(ChunkBuffer):
        def __init__(self, size_bytes: int) -> None:
            made.append(size_bytes)
            super().__init__(size_bytes)

    monkeypatch.setattr(columns, "ChunkBuffer", CountedBuffer)
    peaks = {}
    for chunks in (4, 64):
        made.clear()
        federation = federate([1.0] * silos, parameters=chunk * chunks, chunk=chunk)
        inspections = {}
        for silo in federation.weights:
            file = FileBytes(tmp_path / f"{chunks}-{silo}")
            file.write_at(0, bytes(federation.seal_update(silo, np.ones(chunk * chunks))))
            inspections[silo] = federation.inspect(silo, file)
        inputs = federation.inputs(inspections)
        outputs = []
        for kind in (BlobKind.MODEL, BlobKind.CONTROL):
            file = FileBytes(tmp_path / f"{chunks}-{kind}")
            key = ContentKey.fresh(os.urandom)
            header = federation.header(kind, "appliance")
            outputs.append(BlobWriter(header, kind.chunks_of(federation.layout), file, key))
        tracemalloc.start()
        merge(
            inputs,
            MergeOutputs(model=outputs[0], control=outputs[1]),
            strategy_for(federation.training),
            threads=threads,
        )
        peaks[chunks] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert made == [4 * chunk] * (threads * (silos + 2))
    model_growth = 60 * 4 * chunk
    assert peaks[64] - peaks[4] < model_growth / 50


def test_plaintext_is_wiped_when_a_merge_ends(federate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[ChunkBuffer] = []

    class KeptBuffer(ChunkBuffer):
        def __init__(self, size_bytes: int) -> None:
            super().__init__(size_bytes)
            kept.append(self)

    monkeypatch.setattr(columns, "ChunkBuffer", KeptBuffer)
    federation = federate(parameters=20)
    federation.round({silo: federation.seal_update(silo, np.ones(20)) for silo in federation.weights})
    assert len(kept) == 5
    assert not any(any(buffer._bytes) for buffer in kept)
