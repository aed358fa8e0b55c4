"""The models that a silo can hand to the appliance: the agreed initial one, and the newest that was announced to it.

An appliance that has lost its keys has lost its model with them (record 0026); it asks the silos for the one that the
log names by content. So the silo keeps the newest announced model in its state folder, in the clear, as the silo knows
it anyway: `models/<content>.raw`, the chunks of the layout one after the other. The new file is durable before the old
one goes. Nothing here needs trust: whoever reads a model checks its content.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from hashlib import sha256

from audit.store import NotFound, StoreError
from protocol.errors import MalformedError, ProtocolError
from protocol.layout import Layout, content_digest
from silo_client.model import Sections, allocate_sections, chunk_view
from silo_client.state import SiloState, StateError

_FOLDER, _SUFFIX = "models/", ".raw"


class KeptModels:
    """What one silo has at hand. `initial` reads the agreed initial model, None where the silo has no such file."""

    def __init__(
        self,
        *,
        state: SiloState,
        layout: Layout,
        agreed: bytes,
        initial: Callable[[], Sections] | None,
        keeps: bool,
    ) -> None:
        """`agreed`: the initial model's content digest; `keeps`: whether announced models are kept on disk."""
        self._state = state
        self._layout = layout
        self._agreed = agreed
        self._initial = initial
        self._keeps = keeps

    def keep(self, content: bytes, model: Sections) -> None:
        """Keep an announced model, whose content was checked, in place of the one before; durable on return."""
        name = _FOLDER + content.hex() + _SUFFIX
        if not self._keeps or self._stored() == [name]:
            return
        try:
            if name not in self._stored():
                self._write(name, model)
            # A crash here leaves both, and the next announcement removes the older one.
            for other in self._stored():
                if other != name:
                    self._state.files.delete(self._state.path(other))
        except StoreError as error:
            raise StateError(
                f"the announced model could not be kept for a recovery of the appliance ({error}); make room in the "
                "state folder, or set keep_model = false in silo.toml"
            ) from error

    def find(self, content: bytes) -> Sections | None:
        """The model with this content, None if it isn't here or is damaged; raises what `initial` raises."""
        if content == self._agreed and self._initial is not None:
            return self._initial()
        return self._read(content)

    def held(self) -> tuple[bytes, ...]:
        """Contents of the models that are here and whole, the kept one first."""
        found = [content for content in map(_content_of, self._stored()) if self._read(content) is not None]
        if self._initial is not None and self._agreed not in found:
            # A file that is gone or another by now is no model to promise.
            with suppress(ProtocolError):
                self._initial()
                found.append(self._agreed)
        return tuple(found)

    def _stored(self) -> list[str]:
        start = self._state.path("")
        names = (name.removeprefix(start) for name in self._state.files.list(self._state.path(_FOLDER)))
        return [name for name in names if name.endswith(_SUFFIX) and len(_content_of(name)) == 32]

    def _write(self, name: str, model: Sections) -> None:
        chunks = self._layout.chunks
        sink = self._state.files.create(self._state.path(name), self._size_bytes())
        try:
            offset = 0
            for chunk in chunks:
                sink.write_at(offset, chunk_view(self._layout, chunk, model))
                offset += chunk.size_bytes
            sink.commit()
        finally:
            sink.discard()

    def _size_bytes(self) -> int:
        return sum(chunk.size_bytes for chunk in self._layout.chunks)

    def _read(self, content: bytes) -> Sections | None:
        sections, hashes, offset = allocate_sections(self._layout), [], 0
        try:
            with closing(self._state.files.open(self._state.path(_FOLDER + content.hex() + _SUFFIX))) as source:
                if source.size() != self._size_bytes():
                    return None
                for chunk in self._layout.chunks:
                    view = chunk_view(self._layout, chunk, sections)
                    source.read_into(offset, view)
                    hashes.append(sha256(view).digest())
                    offset += chunk.size_bytes
        except (NotFound, StoreError, MalformedError):
            return None
        return sections if content_digest(self._layout.digest, hashes) == content else None


def _content_of(name: str) -> bytes:
    with suppress(ValueError):
        return bytes.fromhex(name.removeprefix(_FOLDER).removesuffix(_SUFFIX))
    return b""
