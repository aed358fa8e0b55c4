"""The bodies in the store: the current model and control variate, each sealed once under a key of its own.

The same bytes are the enclave's state and what every silo downloads. A silo can read them once it is handed the
content key (`ModelKey`), which happens only after the quorum (DESIGN §8). Bodies are signed with the log key, the one
key that outlives a boot, so that a body of an earlier boot still verifies.
"""

from collections.abc import Callable
from typing import Self

from appliance.enclave.merge_inputs import SealedBody
from appliance.enclave.sealed_state import BodySecret
from audit.store import Store
from protocol.errors import ProtocolError
from protocol.keys import SigningKey
from protocol.layout import Layout
from protocol.sealing import (
    ANY,
    BlobHeader,
    BlobKind,
    BlobReader,
    BlobWriter,
    ContentKey,
    ExpectedHeader,
    size_of,
)
from protocol.sealing.header import APPLIANCE


class BodyError(Exception):
    """A body that the sealed state names is missing from the store or was changed there."""


class Bodies:
    """Makes and opens bodies for one boot."""

    def __init__(
        self,
        *,
        store: Store,
        layout: Layout,
        agreement: bytes,
        origin: str,
        boot_id: bytes,
        log_key: SigningKey,
        random: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._layout = layout
        self._agreement = agreement
        self._origin = origin
        self._boot_id = boot_id
        self._log_key = log_key
        self._random = random

    def create(self, kind: BlobKind, *, round_number: int, base: bytes, metadata: bytes) -> "NewBody":
        """Begin a body: the result of round `round_number` (0: the initial model), derived from model `base`."""
        header = BlobHeader(
            kind=kind,
            agreement=self._agreement,
            origin=self._origin,
            boot_id=self._boot_id,
            round=round_number,
            attempt=0,
            sender=APPLIANCE,
            upload_id=self._random(16),
            base_model=base,
            layout=self._layout.digest,
            encoding="float32",
            parent=None,
        )
        key = ContentKey.fresh(self._random)
        # A name of its own, or two initial models that come at once would overwrite each other.
        name = f"{round_number:08d}-{header.upload_id.hex()}.{kind}"
        return NewBody(self, kind, header, key, name, metadata)

    def open(self, kind: BlobKind, body: BodySecret) -> SealedBody:
        """Open a body that the state names; raises `BodyError`."""
        expected = ExpectedHeader(
            kind=kind,
            agreement=self._agreement,
            origin=self._origin,
            boot_id=ANY,
            round=ANY,
            attempt=0,
            sender=APPLIANCE,
            upload_id=ANY,
            base_model=ANY,
            layout=self._layout.digest,
            encoding="float32",
            parent=None,
        )
        try:
            reader = BlobReader(self._store.open(path_of(body.name)), kind.chunks_of(self._layout))
            digest = reader.authenticate(self._log_key.public, expected)
        except (ProtocolError, OSError) as error:
            raise BodyError(f"sealed {kind} {body.name}: missing from the store, or changed there ({error})") from error
        if digest != body.digest:
            raise BodyError(f"sealed {kind} {body.name}: another body than the one that the sealed state names")
        return SealedBody(reader=reader, content_key=ContentKey(body.key), content=body.content)

    def forget_all_but(self, *keep: BodySecret | None) -> None:
        """Delete bodies that no state needs any more."""
        names = {path_of(body.name) for body in keep if body is not None}
        for name in self._store.list("models/"):
            if name not in names:
                self._store.delete(name)


class NewBody:
    """A body being written; nothing of it counts before `finish`, and a crash leaves a file that nothing names.

    As a context manager, it removes what was written unless it was finished.
    """

    def __init__(
        self, bodies: Bodies, kind: BlobKind, header: BlobHeader, key: ContentKey, name: str, metadata: bytes
    ) -> None:
        chunks = kind.chunks_of(bodies._layout)
        self.name = name
        self._key = key
        self._log_key = bodies._log_key
        self._finished = False
        self._sink = bodies._store.create(path_of(name), size_of(len(header.encode()), 0, chunks))
        self.writer = BlobWriter(header, chunks, self._sink, key, metadata=metadata)

    def finish(self, content: bytes) -> BodySecret:
        """Sign and make durable; `content`: the content digest. Returns what the sealed state keeps."""
        digest = self.writer.finish(self._log_key)
        self._sink.commit()
        self._finished = True
        return BodySecret(name=self.name, digest=digest, content=content, key=self._key.raw())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._finished:
            self._sink.discard()


def path_of(name: str) -> str:
    """Where a body lies in the store."""
    return f"models/{name}.blob"
