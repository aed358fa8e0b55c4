"""Check one complete update: everything that must hold before it counts as accepted (DESIGN §8, collecting).

Called by the enclave for an upload of an admitted silo. Trusts the sender's key and sealing key of the admission and
the expected header, nothing of the upload. The merge opens the update again and compares the norm.

1. length, header, signature; metadata and every chunk open under the signed tags (update-signature)
2. the wrap opens, and the metadata is of its form (update-corrupt)
3. steps and step sizes within the round's (update-steps)
4. parameters and float buffers are finite (update-not-finite)
5. the parameters' norm is within the agreement's (update-too-large)

What fails in 1 may be the doing of whoever holds the spool: a tag is signed, the bytes under it are not. From 2 on it
is the sender's, who alone can make other bytes that open.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.enclave.buffers import ChunkBuffer, largest_chunk_bytes, largest_chunk_coordinates
from appliance.enclave.norm import SquareSum, norm_of
from protocol.agreement_terms import Training, UpdateTerms
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError, refuse
from protocol.keys import SealingKey, VerifyingKey
from protocol.layout import Chunk, Layout, Section
from protocol.sealing.bytes_io import ByteSource
from protocol.sealing.content_key import ContentKey
from protocol.sealing.expected import ExpectedHeader
from protocol.sealing.reader import BlobReader
from protocol.update import UpdateMetadata

_ROUNDING = 1e-9
_FLOATS = (Section.PARAMETERS, Section.FLOAT_BUFFERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What an accepted update turned out to be. `reader` is authenticated, `content_key` opens it.

    `digest`: of the blob; `norm`: Euclidean, of the parameters; `steps`: K_i; `step_size_sum`: Σ η over them.
    """

    digest: bytes
    upload_id: bytes
    norm: float = field(repr=False)
    steps: int
    step_size_sum: float
    metrics: Mapping[str, float] = field(repr=False)
    reader: BlobReader
    content_key: ContentKey


def inspect_update(
    source: ByteSource,
    layout: Layout,
    *,
    sender: VerifyingKey,
    recipient: SealingKey,
    expected: ExpectedHeader,
    training: Training,
    terms: UpdateTerms,
) -> Inspection:
    """Open and judge an update; raises `RefusedError` with the reason. Memory: a few chunks.

    Bytes that are no blob at all raise `MalformedError`.
    """
    reader = BlobReader(source, layout.update_chunks)
    try:
        # 1. length, header, signature
        digest = reader.authenticate(sender, expected)
        key = _key(reader, recipient)
        metadata = _metadata(reader, key)
        _require_steps(metadata, training)
        norm = _norm(reader, key, layout)
    except SignatureError as error:
        raise refuse(
            RefusalCode.UPDATE_SIGNATURE,
            expected="the signature of the admitted silo over header, key and chunks, and the chunks that it is over",
            found=str(error),
            remedy="send the stored bytes again; seal again if that does not help",
        ) from error
    # 5. norm, whose value stays inside
    if norm > terms.maximum_norm:
        raise refuse(
            RefusalCode.UPDATE_TOO_LARGE,
            expected=f"a norm of at most {terms.maximum_norm:g}",
            found="a larger one",
            remedy="lower the step size, or clip the update",
        )
    return Inspection(
        digest=digest,
        upload_id=reader.header.upload_id,
        norm=norm,
        steps=metadata.steps,
        step_size_sum=metadata.step_size_sum,
        metrics=metadata.metrics,
        reader=reader,
        content_key=key,
    )


def _key(reader: BlobReader, recipient: SealingKey) -> ContentKey:
    # 2. wrap, which the signature covers as a whole
    try:
        return reader.unwrap(recipient)
    except SignatureError as error:
        raise _corrupt("a key that does not") from error


def _metadata(reader: BlobReader, key: ContentKey) -> UpdateMetadata:
    try:
        # 1. opens, 2. is of its form
        return UpdateMetadata.parse(reader.open_metadata(key))
    except MalformedError as error:
        # The parser's words quote what it found, which was sealed; a refusal is logged for all to read.
        raise _corrupt("metadata of another form") from error


def _corrupt(found: str) -> RefusedError:
    return refuse(
        RefusalCode.UPDATE_CORRUPT,
        expected="a key that opens, and metadata",
        found=found,
        remedy="seal the update again to the key that the appliance announced",
    )


def _require_steps(metadata: UpdateMetadata, training: Training) -> None:
    # 3. steps
    limit = training.local_steps * training.learning_rate
    if not 1 <= metadata.steps <= training.local_steps:
        raise _steps(f"1 to {training.local_steps} local steps")
    if not 0 < metadata.step_size_sum <= limit * (1 + _ROUNDING):
        raise _steps(f"step sizes that sum to more than 0 and at most {limit:g}")


def _steps(expected: str) -> RefusedError:
    # What was found was sealed, and the gateway reads the answer.
    remedy = "train with the round's local_steps and learning_rate"
    return refuse(RefusalCode.UPDATE_STEPS, expected=expected, found="fewer or more", remedy=remedy)


def _norm(reader: BlobReader, key: ContentKey, layout: Layout) -> float:
    chunks = layout.update_chunks
    buffer = ChunkBuffer(largest_chunk_bytes(chunks))
    square_sum = SquareSum(largest_chunk_coordinates(chunks))
    parameters: list[float] = []
    try:
        for chunk in chunks:
            # 1. opens
            reader.open_chunk(chunk.index, key, buffer.bytes_for(chunk))
            if chunk.section not in _FLOATS:
                continue
            # 4. finite
            squares = square_sum.of(buffer.values_for(chunk))
            _require_finite(squares, chunk)
            if chunk.section is Section.PARAMETERS:
                parameters.append(squares)
    finally:
        buffer.wipe()
        square_sum.wipe()
    return norm_of(parameters)


def _require_finite(squares: float, chunk: Chunk) -> None:
    if not math.isfinite(squares):
        raise refuse(
            RefusalCode.UPDATE_NOT_FINITE,
            expected="finite numbers",
            found=f"NaN or infinity among the {chunk.section}",
            remedy="lower the step size; nothing of this update was used",
        )
