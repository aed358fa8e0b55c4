"""What is found out about an update when it is inspected and again when it is merged, and about the store's bodies.

The strongest party here is a sender who helps the operator: he holds the content key, and so can make two ciphertexts
that open under one tag (GCM commits to no key and no message).
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from blob_surgery import other_blocks

from appliance.enclave.merge import MergeInputs, MergeOutputs, UpdateChanged, merge
from appliance.enclave.reseal import reseal
from appliance.enclave.strategies import strategy_for
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError
from protocol.keys import SigningKey
from protocol.layout import Section
from protocol.sealing import BlobKind, BlobWriter, ContentKey, MemoryBytes, size_of
from protocol.update import UpdateMetadata

GOOD = UpdateMetadata(steps=1, step_size_sum=0.1, metrics={}).encode()


def refusal(act: Callable[[], object]) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        act()
    return refused.value


class TestInspection:
    def test_a_good_update_is_described(self, federate: Any) -> None:
        federation = federate(parameters=20, float_buffers=3)
        vectors = {
            **federation.zeros(),
            Section.PARAMETERS: np.arange(20, dtype=np.float32),
            Section.FLOAT_BUFFERS: np.full(3, 1e30, np.float32),
        }
        source = federation.seal_update("silo-0", vectors, steps=7)
        inspection = federation.inspect("silo-0", source)
        assert inspection.norm == pytest.approx(np.linalg.norm(np.arange(20)), rel=1e-12), "parameters only"
        assert (inspection.steps, inspection.metrics) == (7, {"loss": 0.5})
        assert inspection.step_size_sum == pytest.approx(0.7)
        assert inspection.digest == inspection.reader.digest
        assert inspection.upload_id == inspection.reader.header.upload_id

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("section", [Section.PARAMETERS, Section.FLOAT_BUFFERS])
    @pytest.mark.parametrize("place", [0, -1])
    def test_not_finite(self, federate: Any, bad: float, section: Section, place: int) -> None:
        federation = federate(parameters=20, float_buffers=11)
        vectors = federation.zeros()
        vectors[section][place] = bad
        error = refusal(lambda: federation.inspect("silo-0", federation.seal_update("silo-0", vectors)))
        assert error.refusal.code is RefusalCode.UPDATE_NOT_FINITE
        assert f"found NaN or infinity among the {section}" in str(error)

    def test_too_large_without_saying_how_large(self, federate: Any) -> None:
        federation = federate(parameters=4, maximum_norm=3.0)
        assert federation.inspect("silo-0", federation.seal_update("silo-0", np.full(4, 1.5)))
        error = refusal(lambda: federation.inspect("silo-0", federation.seal_update("silo-0", np.full(4, 1.5 + 1e-6))))
        assert error.refusal.code is RefusalCode.UPDATE_TOO_LARGE
        assert "expected a norm of at most 3, found a larger one" in str(error)

    @pytest.mark.parametrize(
        ("steps", "step_size_sum", "words"),
        [
            (0, 0.1, "expected 1 to 5 local steps, found fewer or more"),
            (6, 0.5, "expected 1 to 5 local steps, found fewer or more"),
            (5, 0.5000001, "at most 0.5"),
            (5, 0.0, "more than 0"),
            (5, -0.1, "more than 0"),
        ],
    )
    def test_steps_beyond_the_rounds(self, federate: Any, steps: int, step_size_sum: float, words: str) -> None:
        federation = federate(local_steps=5)
        update = federation.seal_update("silo-0", np.zeros(20), steps=steps, step_size_sum=step_size_sum)
        error = refusal(lambda: federation.inspect("silo-0", update))
        assert error.refusal.code is RefusalCode.UPDATE_STEPS
        assert words in str(error)
        # The gateway reads the answer, and these numbers were sealed.
        assert error.refusal.found == "fewer or more"

    def test_a_sum_of_rounded_step_sizes_is_not_too_much(self, federate: Any) -> None:
        federation = federate(local_steps=20, learning_rate=0.05)
        total = sum([0.05] * 20)
        assert total > 20 * 0.05
        update = federation.seal_update("silo-0", np.zeros(20), steps=20, step_size_sum=total)
        assert federation.inspect("silo-0", update).step_size_sum == total

    def test_another_silos_signature(self, federate: Any) -> None:
        federation = federate()
        update = federation.seal_update("silo-0", np.zeros(20))
        federation.identities["silo-0"] = SigningKey(os.urandom(32))
        error = refusal(lambda: federation.inspect("silo-0", update))
        assert error.refusal.code is RefusalCode.UPDATE_SIGNATURE

    def test_another_silos_update(self, federate: Any) -> None:
        federation = federate()
        update = federation.seal_update("silo-1", np.zeros(20))
        assert refusal(lambda: federation.inspect("silo-0", update)).refusal.code is RefusalCode.WRONG_SENDER

    def test_an_update_of_another_round(self, federate: Any) -> None:
        federation = federate()
        update, _ = federation.seal_raw("silo-0", [bytes(32), bytes(32), bytes(16)], GOOD, round=2)
        assert refusal(lambda: federation.inspect("silo-0", update)).refusal.code is RefusalCode.WRONG_ROUND

    def test_truncated(self, federate: Any) -> None:
        federation = federate()
        update = MemoryBytes(bytes(federation.seal_update("silo-0", np.zeros(20)))[:-1])
        assert refusal(lambda: federation.inspect("silo-0", update)).refusal.code is RefusalCode.WRONG_SIZE

    def test_no_blob_at_all(self, federate: Any) -> None:
        with pytest.raises(MalformedError):
            federate().inspect("silo-0", MemoryBytes(b"hello"))

    @pytest.mark.parametrize("chunk", [0, 1, 2])
    def test_a_chunk_that_does_not_open(self, federate: Any, chunk: int) -> None:
        federation = federate()
        update = federation.seal_update("silo-0", np.ones(20))
        place = chunk_offset(federation, chunk)
        update.write_at(place, bytes([bytes(update)[place] ^ 1]))
        error = refusal(lambda: federation.inspect("silo-0", update))
        assert error.refusal.code is RefusalCode.UPDATE_SIGNATURE
        assert f"segment {chunk + 1}" in str(error)

    @pytest.mark.parametrize("metadata", [b"", b"{}", b'{"metrics":{},"step_size_sum":"nan","steps":1}'])
    def test_metadata_that_is_none(self, federate: Any, metadata: bytes) -> None:
        federation = federate()
        update, _ = federation.seal_raw("silo-0", [bytes(32), bytes(32), bytes(16)], metadata)
        assert refusal(lambda: federation.inspect("silo-0", update)).refusal.code is RefusalCode.UPDATE_CORRUPT

    def test_a_refusal_does_not_quote_what_was_sealed(self, federate: Any) -> None:
        federation = federate()
        metadata = b'{"metrics":{"loss":"CANARY"},"step_size_sum":"1","steps":1}'
        update, _ = federation.seal_raw("silo-0", [bytes(32), bytes(32), bytes(16)], metadata)
        error = refusal(lambda: federation.inspect("silo-0", update))
        assert error.refusal.code is RefusalCode.UPDATE_CORRUPT
        assert "CANARY" not in str(error)
        assert "metadata of another form" in str(error)

    def test_an_inspection_does_not_print_norm_or_metrics(self, federate: Any) -> None:
        federation = federate()
        shown = repr(federation.inspect("silo-0", federation.seal_update("silo-0", np.full(20, 3.0))))
        assert "norm" not in shown
        assert "loss" not in shown

    def test_a_key_wrapped_to_somebody_else(self, federate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        federation = federate()
        update = federation.seal_update("silo-0", np.zeros(20))
        data = bytearray(bytes(update))
        wrap = data.index((1168).to_bytes(4, "big")) + 4
        data[wrap + 1100] ^= 1
        resigned = resign(federation, "silo-0", bytes(data))
        assert refusal(lambda: federation.inspect("silo-0", resigned)).refusal.code is RefusalCode.UPDATE_CORRUPT


class TestMerge:
    def test_two_ciphertexts_under_one_tag_are_caught_by_the_norm(self, federate: Any) -> None:
        """What was inspected was harmless; what lies in the spool at the merge is not, and has the same tags."""
        federation = federate(parameters=20)
        plaintexts = federation.plaintexts(
            BlobKind.UPDATE, {**federation.zeros(), Section.PARAMETERS: np.ones(20, np.float32)}
        )
        update, key = federation.seal_raw("silo-1", plaintexts, GOOD)
        inspections = others(federation, "silo-1") | {"silo-1": federation.inspect("silo-1", update)}
        before = federation.model
        forged = forge(update, key, federation, chunk=0, wanted=np.full(4, 1000, "<f4").tobytes())
        update.write_at(0, forged)
        assert inspections["silo-1"].reader.authenticate(federation.identities["silo-1"].public)
        with pytest.raises(UpdateChanged) as changed:
            federation.merge(inspections)
        assert changed.value.silo == "silo-1"
        assert changed.value.refusal.code is RefusalCode.CHANGED_AFTER_ADMISSION
        assert "the update of silo-1 as it was admitted, found another norm" in str(changed.value)
        assert federation.model is before

    def test_not_finite_under_the_same_tag(self, federate: Any) -> None:
        federation = federate(parameters=20)
        update, key = federation.seal_raw("silo-1", [bytes(32), bytes(32), bytes(16)], GOOD)
        inspections = others(federation, "silo-1") | {"silo-1": federation.inspect("silo-1", update)}
        update.write_at(0, forge(update, key, federation, chunk=1, wanted=np.full(4, np.inf, "<f4").tobytes()))
        with pytest.raises(UpdateChanged, match="not finite") as changed:
            federation.merge(inspections, threads=2)
        assert changed.value.silo == "silo-1"

    def test_a_buffer_that_is_not_finite_under_the_same_tag(self, federate: Any) -> None:
        federation = federate(parameters=20, float_buffers=8)
        update, key = federation.seal_raw("silo-1", [bytes(32), bytes(32), bytes(16), bytes(32)], GOOD)
        inspections = others(federation, "silo-1") | {"silo-1": federation.inspect("silo-1", update)}
        update.write_at(0, forge(update, key, federation, chunk=3, wanted=np.full(4, np.inf, "<f4").tobytes()))
        with pytest.raises(UpdateChanged, match="not finite") as changed:
            federation.merge(inspections)
        assert changed.value.silo == "silo-1"

    def test_another_update_of_the_same_silo_in_its_place(self, federate: Any) -> None:
        federation = federate(parameters=20)
        inspections = others(federation, "silo-1")
        update = federation.seal_update("silo-1", np.ones(20))
        inspections["silo-1"] = federation.inspect("silo-1", update)
        update.write_at(0, bytes(federation.seal_update("silo-1", np.ones(20))))
        with pytest.raises(UpdateChanged, match="changed since the sender's signature") as changed:
            federation.merge(inspections, threads=3)
        assert changed.value.silo == "silo-1"

    def test_a_bit_flipped_by_the_operator(self, federate: Any) -> None:
        federation = federate(parameters=20)
        inspections = others(federation, "silo-2")
        update = federation.seal_update("silo-2", np.ones(20))
        inspections["silo-2"] = federation.inspect("silo-2", update)
        place = chunk_offset(federation, 2)
        update.write_at(place, bytes([bytes(update)[place] ^ 1]))
        with pytest.raises(UpdateChanged, match="silo-2"):
            federation.merge(inspections)

    def test_a_norm_that_differs_in_the_last_bit(self, federate: Any) -> None:
        federation = federate(parameters=20)
        inspections = others(federation)
        norm = inspections["silo-0"].norm
        inspections["silo-0"] = replace(inspections["silo-0"], norm=float(np.nextafter(norm, 10 * norm + 1)))
        with pytest.raises(UpdateChanged, match="silo-0"):
            federation.merge(inspections)

    @pytest.mark.parametrize("which", ["model", "control"])
    def test_a_body_forged_by_a_silo_that_holds_its_key(self, federate: Any, which: str) -> None:
        """Every silo of the last round holds the old model's key: only the content digest tells."""
        federation = federate(parameters=20)
        federation.merge(others(federation))
        body = getattr(federation, which)
        source = body.reader._source
        kind = BlobKind(which)
        forged = forge(source, body.content_key, federation, chunk=0, wanted=bytes(16), kind=kind)
        assert forged != bytes(source)
        source.write_at(0, forged)
        updates = others(federation)
        error = refusal(lambda: federation.merge(updates))
        assert error.refusal.code is RefusalCode.WRONG_MODEL
        assert f"the old {which} with content sha256:" in str(error)

    def test_a_body_that_does_not_open(self, federate: Any) -> None:
        federation = federate(parameters=20)
        updates = others(federation)
        source = federation.model.reader._source
        place = source.size() - 64 - 20
        source.write_at(place, bytes([bytes(source)[place] ^ 1]))
        with pytest.raises(SignatureError, match="segment 3"):
            federation.merge(updates, threads=2)

    def test_an_overflow_is_not_published(self, federate: Any) -> None:
        federation = federate(parameters=20, maximum_norm=1e30, server_learning_rate=1e30)
        updates = {
            silo: federation.inspect(silo, federation.seal_update(silo, np.full(20, 1e20)))
            for silo in federation.weights
        }
        error = refusal(lambda: federation.merge(updates))
        assert error.refusal.code is RefusalCode.UPDATE_NOT_FINITE
        assert "an overflow of float32 among the parameters" in str(error)

    def test_a_silo_twice_is_a_mistake(self, federate: Any) -> None:
        federation = federate(parameters=20)
        inputs = federation.inputs(others(federation))
        with pytest.raises(ValueError, match="each silo once"):
            replace(inputs, contributions=(*inputs.contributions, inputs.contributions[0]))

    def test_an_empty_cohort_is_a_mistake(self, federate: Any) -> None:
        with pytest.raises(ValueError, match="at least one member"):
            federate(parameters=20).merge({})

    def test_a_control_where_the_strategy_has_none_is_a_mistake(self, federate: Any) -> None:
        federation = federate(parameters=20)
        inputs: MergeInputs = federation.inputs(others(federation))
        header = federation.header(BlobKind.MODEL, "appliance")
        writer = BlobWriter(header, federation.layout.chunks, MemoryBytes(), ContentKey.fresh(os.urandom))
        with pytest.raises(ValueError, match="exactly where the strategy keeps one"):
            merge(inputs, MergeOutputs(model=writer, control=None), strategy_for(federation.training), threads=1)


class TestReseal:
    def test_a_model_is_taken_over_under_a_fresh_key(self, federate: Any) -> None:
        federation = federate(parameters=20, frozen=5)
        vectors = {**federation.zeros(), Section.PARAMETERS: np.arange(20, dtype=np.float32)}
        initial = federation.seal_body(BlobKind.INITIAL, vectors)
        output, key, sink = new_model(federation)
        reseal(initial, federation.layout, output)
        output.finish(SigningKey(b"e" * 32))
        federation.model = federation.body(BlobKind.MODEL, sink, key, initial.content)
        assert (federation.x == np.arange(20)).all()
        assert key.raw() != initial.content_key.raw()

    def test_another_content_than_the_agreements(self, federate: Any) -> None:
        federation = federate(parameters=20)
        initial = federation.seal_body(BlobKind.INITIAL, federation.zeros())
        output, _, _ = new_model(federation)
        error = refusal(lambda: reseal(replace(initial, content=b"c" * 32), federation.layout, output))
        assert error.refusal.code is RefusalCode.WRONG_MODEL
        assert f"the initial with content sha256:{'63' * 32}" in str(error)

    def test_a_chunk_that_does_not_open(self, federate: Any) -> None:
        federation = federate(parameters=20)
        initial = federation.seal_body(BlobKind.INITIAL, federation.zeros())
        initial.reader._source.write_at(initial.reader._source.size() - 100, b"!!!!")
        output, _, _ = new_model(federation)
        with pytest.raises(SignatureError):
            reseal(initial, federation.layout, output)


def others(federation: Any, *but: str) -> dict[str, Any]:
    """Good, inspected updates of everybody else."""
    return {
        silo: federation.inspect(silo, federation.seal_update(silo, np.full(20, number + 1.0)))
        for number, silo in enumerate(federation.weights)
        if silo not in but
    }


def new_model(federation: Any) -> tuple[BlobWriter, ContentKey, MemoryBytes]:
    key, sink = ContentKey.fresh(os.urandom), MemoryBytes()
    return BlobWriter(federation.header(BlobKind.MODEL, "appliance"), federation.layout.chunks, sink, key), key, sink


def chunk_offset(federation: Any, position: int, kind: BlobKind = BlobKind.UPDATE, data: bytes | None = None) -> int:
    """Where a chunk's ciphertext begins, counted from the end."""
    chunks = kind.chunks_of(federation.layout)
    size = size_of(0, 0, chunks) if data is None else len(data)
    header = federation.header(kind, "silo-0" if kind is BlobKind.UPDATE else "appliance")
    total = size if data is not None else size_of(len(header.encode()), 1168, chunks)
    return total - 64 - sum(chunk.size_bytes + 16 for chunk in chunks[position:])


def resign(federation: Any, silo: str, data: bytes) -> MemoryBytes:
    """The sender signs what he changed."""
    chunks = federation.layout.update_chunks
    header_size = int.from_bytes(data[18:22], "big")
    header, wrap = data[22 : 22 + header_size], data[26 + header_size : 26 + header_size + 1168]
    place, tags = 26 + header_size + 1168, b""
    for size in (4096, *(chunk.size_bytes for chunk in chunks)):
        tags += data[place + size : place + size + 16]
        place += size + 16
    return MemoryBytes(data[:-64] + federation.identities[silo].sign("strongroom/blob/v1", header, wrap, tags))


def forge(
    source: MemoryBytes,
    key: ContentKey,
    federation: Any,
    *,
    chunk: int,
    wanted: bytes,
    kind: BlobKind = BlobKind.UPDATE,
) -> bytes:
    """Another ciphertext under the same key, nonce and tag, whose first plaintext block is `wanted`, or very nearly."""
    data = bytes(source)
    place = chunk_offset(federation, chunk, kind, data)
    last = chunk == len(kind.chunks_of(federation.layout)) - 1
    nonce = (chunk + 1).to_bytes(11, "big") + bytes([last])
    return data[:place] + other_blocks(key.raw(), nonce, data[place : place + 32], wanted) + data[place + 32 :]
