"""What an auditor keeps of a verification, so that the next one goes on from there.

One canonical JSON object: the head that was reached, the state of the replay, of the evidence and of the releases up to
it, and a digest of the checkpoints before it. The next run reads every byte under that head again and hashes it, holds
it against the head, holds the checkpoints before it against the digest, and hashes every object again; what it takes
from here is that they were *judged*. So the file is as good as the verdict that it stands for: who can write it can
write that too. Its checksum tells accidents, and hands that did not know of it; no key is kept that could tell more.

Called by the audit and by `strongroom audit verify --resume`.
"""

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from audit.entries import Entry, parse_entry
from audit.freshness import Freshness
from audit.id_set import IdSet
from audit.note import Checkpoint
from audit.phases import Phase
from audit.quorum import Cosignature, Tally
from audit.replay import History
from protocol import canonical
from protocol.canonical import Json
from protocol.errors import MalformedError
from protocol.fields import Fields, decode_base64, encode_base64, format_digest

LIMIT_BYTES = 2**28
READER = "1"  # To be raised with every change of what a verdict means: what an older reader passed is then read again.
_KIND = "audit.resumption"
_SUM_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """`checkpoint`: the signed head. `notes`: digest (32 bytes) of the checkpoints before it. `state`: by part."""

    agreement: bytes
    reader: str
    checkpoint: Checkpoint
    notes: bytes
    state: Mapping[str, Mapping[str, object]]

    @property
    def size(self) -> int:
        """How many entries were verified."""
        return self.checkpoint.size

    def encode(self) -> bytes:
        """The file's bytes."""
        table: dict[str, Json] = {
            "kind": _KIND,
            "version": 1,
            "agreement": format_digest(self.agreement),
            "reader": self.reader,
            "checkpoint": self.checkpoint.encode().decode(),
            "notes": format_digest(self.notes),
            "state": {part: {name: _packed(value) for name, value in of.items()} for part, of in self.state.items()},
        }
        return canonical.encode({**table, "sum": format_digest(sha256(canonical.encode(table)).digest())})

    @classmethod
    def parse(cls, data: bytes) -> "Resumption":
        """Read a file; raises `MalformedError`, also if it was changed."""
        try:
            return cls._parse(data)
        except (RecursionError, AttributeError, TypeError, ValueError) as error:
            raise MalformedError(f"{_KIND}: expected what an audit keeps, found other values") from error

    @classmethod
    def _parse(cls, data: bytes) -> "Resumption":
        table = canonical.decode(data, limit_bytes=LIMIT_BYTES)
        fields = Fields(table, _KIND)
        fields.literal("kind", _KIND)
        fields.literal("version", 1)
        checksum = fields.digest("sum")
        del table["sum"]
        if sha256(canonical.encode(table)).digest() != checksum:  # type: ignore[arg-type]
            raise MalformedError(f"{_KIND}: expected it as it was written, found it changed: verify without it")
        agreement, reader, notes = fields.digest("agreement"), fields.text("reader"), fields.digest("notes")
        checkpoint = Checkpoint.parse(fields.note("checkpoint", limit=2**20).encode())
        state = fields.take("state", "a table")
        fields.close()
        parts = {part: {name: _unpacked(value) for name, value in of.items()} for part, of in state.items()}  # type: ignore[attr-defined]
        return cls(agreement=agreement, reader=reader, checkpoint=checkpoint, notes=notes, state=parts)


def state_of(part: object) -> dict[str, object]:
    """All attributes but those that the class names in `NOT_KEPT`."""
    not_kept: frozenset[str] = getattr(type(part), "NOT_KEPT", frozenset())
    if isinstance(part, History):
        not_kept = frozenset({"agreement", "outcomes"})
    return {name: value for name, value in vars(part).items() if name not in not_kept}


def restore(part: object, state: Mapping[str, object]) -> None:
    """Set them again; raises `MalformedError` unless they are the same attributes, of the same types."""
    fresh = state_of(part)
    if fresh.keys() != state.keys():
        raise MalformedError(f"{_KIND}: expected the state of {type(part).__name__}, found another's")
    for name, value in state.items():
        if fresh[name] is not None and type(fresh[name]) is not type(value):
            raise MalformedError(f"{_KIND}: {name}: expected {type(fresh[name]).__name__}, found another type")
        setattr(part, name, _copied(value))


def _copied(value: Any) -> Any:
    """A state may be gone on from twice."""
    if isinstance(value, Freshness):
        other = Freshness()
        restore(other, state_of(value))
        return other
    return copy(value)


def _packed(value: Any) -> Json:
    if isinstance(value, Phase):
        return {"phase": str(value)}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, Entry):
        return {"entry": value.encode().decode()}
    if isinstance(value, IdSet):
        return {"ids": [value.width_bytes, encode_base64(b"".join(sorted(value)))]}
    if isinstance(value, Tally):
        both = (value.owners, value.witnesses)
        votes: list[Json] = [[[vote.owner, vote.name, vote.time] for vote in of] for of in both]
        return {"votes": votes}
    if isinstance(value, Freshness):
        return {"freshness": {name: _packed(item) for name, item in state_of(value).items()}}
    if isinstance(value, dict):
        return {"map": [[_packed(key), _packed(item)] for key, item in value.items()]}
    if isinstance(value, set):
        return {"set": [_packed(item) for item in sorted(value)]}
    if isinstance(value, list):
        return {"list": [_packed(item) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [_packed(item) for item in value]}
    raise TypeError(f"resumption: no form for {type(value).__name__}")


def _unpacked(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((form, inner),) = value.items()
    if form == "phase":
        return Phase(inner)
    if form == "hex":
        return bytes.fromhex(inner)
    if form == "entry":
        return parse_entry(inner.encode())
    if form == "ids":
        return _ids(*inner)
    if form == "votes":
        owners, witnesses = (tuple(Cosignature(owner=o, name=n, time=t) for o, n, t in of) for of in inner)
        return Tally(owners=owners, witnesses=witnesses)
    if form == "freshness":
        fresh = Freshness()
        restore(fresh, {name: _unpacked(item) for name, item in inner.items()})
        return fresh
    if form == "map":
        return {_unpacked(key): _unpacked(item) for key, item in inner}
    if form == "set":
        return {_unpacked(item) for item in inner}
    if form == "list":
        return [_unpacked(item) for item in inner]
    if form == "tuple":
        return tuple(_unpacked(item) for item in inner)
    raise MalformedError(f"{_KIND}: expected a known form, found {json.dumps(form)[:80]}")


def _ids(width_bytes: int, text: str) -> IdSet:
    data = decode_base64(text)
    if data is None or width_bytes not in (16, 32) or len(data) % width_bytes:
        raise MalformedError(f"{_KIND}: expected ids of 16 or 32 bytes in base64, found others")
    return IdSet(width_bytes, (data[start : start + width_bytes] for start in range(0, len(data), width_bytes)))
