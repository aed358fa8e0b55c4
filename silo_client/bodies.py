"""Sealed bodies as a silo reads and makes them: models and controls come in, updates and the initial model go out.

What comes in is authenticated under the appliance's log key, opened chunk by chunk, and handed on only if its content
digest is the one that the log's entry names. What goes out lies sealed and durable in the silo's own store before its
first byte is sent. Memory: the vectors themselves and one ciphertext chunk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from audit.entries import RoundOpened
from protocol.agreement import Agreement
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError, refuse
from protocol.fields import format_digest
from protocol.keys import SealingPublicKey, Secret, SigningKey
from protocol.layout import Layout, Section, content_digest
from protocol.sealing import (
    ANY,
    BlobHeader,
    BlobKind,
    BlobReader,
    BlobWriter,
    ByteSource,
    ContentKey,
    ExpectedHeader,
    size_of,
    wrap_content_key,
)
from protocol.sealing.geometry import WRAP_BYTES
from protocol.sealing.header import APPLIANCE, HEADER_LIMIT_BYTES
from protocol.update import UpdateMetadata
from silo_client.machine import SealedBody
from silo_client.model import Sections, allocate_sections, chunk_view
from silo_client.state import SealedUpdate, SiloState

_UPLOAD_ID_BYTES = 16
_UNUSED = "nothing of it was used; the appliance's store was changed, or it handed out something else"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BodyFormat(Secret):
    """What this silo's bodies share: the terms that stand in their headers, and who seals them."""

    agreement: Agreement
    layout: Layout
    silo: str
    identity: SigningKey
    random: Callable[[int], bytes]


def body_limit_bytes(layout: Layout, kind: BlobKind) -> int:
    """The most bytes that a body of this kind may have: what a download is cut off at."""
    return size_of(HEADER_LIMIT_BYTES, WRAP_BYTES, kind.chunks_of(layout))


def open_body(
    source: ByteSource, body: SealedBody, kind: BlobKind, content: bytes, form: BodyFormat
) -> tuple[dict[Section, Tensor], bytes]:
    """The vectors of a model or control, and its metadata; nothing of them is returned before all of it is checked.

    1. header, size, and the log key's signature  wrong-model, `SignatureError`
    2. it is the very blob that was announced     wrong-model
    3. every chunk opens                          `SignatureError`
    4. its content is what the log names          wrong-model
    """
    layout = form.layout
    # 1
    try:
        reader = BlobReader(source, kind.chunks_of(layout))
        digest = reader.authenticate(body.signer, _expected(kind, form))
    except RefusedError as error:
        refusal = error.refusal
        found = f"a blob with {refusal.found} in the place of {refusal.expected}"
        raise _wrong_model(f"the sealed {kind} of this round", found) from error
    except MalformedError as error:
        raise _wrong_model(f"the sealed {kind} of this round", f"something else ({error})") from error
    except SignatureError as error:
        raise _unopened(kind, error) from error
    # 2
    if digest != body.digest:
        raise _wrong_model(f"the sealed {kind} {format_digest(body.digest)}", format_digest(digest))
    # 3
    wanted = (Section.PARAMETERS,) if kind is BlobKind.CONTROL else tuple(Section)
    sections = allocate_sections(layout, wanted)
    hashes = []
    try:
        for chunk in kind.chunks_of(layout):
            view = chunk_view(layout, chunk, sections)
            reader.open_chunk(chunk.index, body.key, view)
            hashes.append(sha256(view).digest())
        metadata = reader.open_metadata(body.key)
    except SignatureError as error:
        raise _unopened(kind, error) from error
    # 4
    opened = content_digest(layout.digest, hashes)
    if opened != content:
        named = f"a {kind} with the content that the log names, {format_digest(content)}"
        raise _wrong_model(named, format_digest(opened))
    return sections, metadata


def seal_update(
    sections: Sections,
    control: Tensor | None,
    metadata: UpdateMetadata,
    *,
    opened: RoundOpened,
    state: SiloState,
    form: BodyFormat,
) -> SealedUpdate:
    """Seal an update to the round's key, and make it and c_i⁺ (`control`) durable; `SiloMachine.hold` comes next.

    A crash in between leaves files that nothing names.
    """
    upload_id = form.random(_UPLOAD_ID_BYTES)
    header = _header(
        BlobKind.UPDATE,
        form,
        boot_id=opened.boot_id,
        moment=(opened.round, opened.attempt),
        upload_id=upload_id,
        base=opened.model,
        parent=state.parent,
    )
    name = state.update_name(upload_id)
    digest = _seal(header, sections, metadata.encode(), SealingPublicKey(opened.round_key), state, name, form)
    stored = None
    if control is not None:
        stored = state.write_file(state.control_name(upload_id), control.numpy().data.cast("B"))
    return SealedUpdate(
        round=opened.round,
        attempt=opened.attempt,
        boot_id=opened.boot_id,
        upload_id=upload_id,
        digest=digest,
        blob=name,
        control=stored,
    )


def seal_initial(
    sections: Sections,
    *,
    boot_id: bytes,
    recipient: SealingPublicKey,
    state: SiloState,
    form: BodyFormat,
    content: bytes | None = None,
) -> tuple[bytes, str]:
    """Seal a model to the appliance: the agreed initial one, or the one with this `content`, which it has lost.

    Returns its upload id and its name among the state's files.
    """
    upload_id = form.random(_UPLOAD_ID_BYTES)
    header = _header(
        BlobKind.INITIAL,
        form,
        boot_id=boot_id,
        moment=(0, 0),
        upload_id=upload_id,
        base=form.agreement.model.initial if content is None else content,
        parent=None,
    )
    name = state.update_name(upload_id)
    _seal(header, sections, b"", recipient, state, name, form)
    return upload_id, name


def read_control(state: SiloState, layout: Layout) -> Tensor:
    """c_i as a float32 vector over all parameters; zeros while there is none. Raises `StateError`."""
    values = torch.zeros(layout.coordinates(Section.PARAMETERS), dtype=torch.float32)
    state.read_control(values.numpy().data.cast("B"))
    return values


def _header(
    kind: BlobKind,
    form: BodyFormat,
    *,
    boot_id: bytes,
    moment: tuple[int, int],
    upload_id: bytes,
    base: bytes,
    parent: bytes | None,
) -> BlobHeader:
    round_number, attempt = moment
    return BlobHeader(
        kind=kind,
        agreement=form.agreement.digest,
        origin=form.agreement.log.origin,
        boot_id=boot_id,
        round=round_number,
        attempt=attempt,
        sender=form.silo,
        upload_id=upload_id,
        base_model=base,
        layout=form.layout.digest,
        encoding=form.agreement.update.encoding,
        parent=parent,
    )


def _seal(
    header: BlobHeader,
    sections: Sections,
    metadata: bytes,
    recipient: SealingPublicKey,
    state: SiloState,
    name: str,
    form: BodyFormat,
) -> bytes:
    layout, chunks = form.layout, header.kind.chunks_of(form.layout)
    key = ContentKey.fresh(form.random)
    wrap = wrap_content_key(key, header, recipient)
    sink = state.files.create(state.path(name), size_of(len(header.encode()), len(wrap), chunks))
    try:
        writer = BlobWriter(header, chunks, sink, key, wrap, metadata)
        for chunk in chunks:
            writer.seal_chunk(chunk.index, chunk_view(layout, chunk, sections))
        digest = writer.finish(form.identity)
        sink.commit()
    finally:
        sink.discard()
    return digest


def _expected(kind: BlobKind, form: BodyFormat) -> ExpectedHeader:
    # Boot, round and base may be of long ago: the announcement's key and the logged content say which body it is.
    return ExpectedHeader(
        kind=kind,
        agreement=form.agreement.digest,
        origin=form.agreement.log.origin,
        boot_id=ANY,
        round=ANY,
        attempt=ANY,
        sender=APPLIANCE,
        upload_id=ANY,
        base_model=ANY,
        layout=form.layout.digest,
        encoding=form.agreement.update.encoding,
        parent=None,
    )


def _wrong_model(expected: str, found: str) -> RefusedError:
    return refuse(RefusalCode.WRONG_MODEL, expected=expected, found=found, remedy=_UNUSED)


def _unopened(kind: BlobKind, why: SignatureError) -> SignatureError:
    return SignatureError(f"the {kind} of this round does not open: {why}; {_UNUSED}")
