"""Records: frozen dataclasses whose fields say how they are written in canonical JSON.

Every message and every log entry is a `Record`. The schema is the dataclass itself; parsing is closed (unknown
and missing keys are errors) and `parse(encode(x)) == x`. What was signed or logged is always the bytes as they
came, never an encoding made again.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class RoundAbandoned(Record, kind="round.abandoned"):
        round: Count
        attempt: Count
        reason: Text
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, ClassVar, Self, TypeAlias, Union, get_args, get_origin, get_type_hints

from protocol import canonical
from protocol.errors import MalformedError
from protocol.fields import Fields, encode_base64, format_decimal, format_digest
from protocol.keys import VerifyingKey


@dataclass(frozen=True, slots=True)
class Form:
    """How one field is spelled: the `Fields` reader's name and its arguments; `is_key`: a good Ed25519 key."""

    reader: str
    size: int | None = None
    limit: int | None = None
    is_key: bool = False


Digest: TypeAlias = Annotated[bytes, Form("digest")]
Name: TypeAlias = Annotated[str, Form("name")]
Text: TypeAlias = Annotated[str, Form("text")]
Note: TypeAlias = Annotated[str, Form("note", limit=65_536)]
Count: TypeAlias = Annotated[int, Form("integer")]
Decimal: TypeAlias = Annotated[float, Form("decimal")]
Id32: TypeAlias = Annotated[bytes, Form("hexadecimal", size=32)]
Id16: TypeAlias = Annotated[bytes, Form("hexadecimal", size=16)]
Key32: TypeAlias = Annotated[bytes, Form("base64", size=32, is_key=True)]
"""An Ed25519 public key of large order (`protocol.keys.VerifyingKey`)."""
P256: TypeAlias = Annotated[bytes, Form("base64", size=91)]
"""A SubjectPublicKeyInfo (DER) of a P-256 key, its point uncompressed."""
Hybrid: TypeAlias = Annotated[bytes, Form("base64", size=1216)]
"""An ML-KEM-768+X25519 public key."""
Bytes: TypeAlias = Annotated[bytes, Form("base64", limit=2**20)]


class Record:
    """Base of messages and entries; see the module's docstring."""

    __slots__ = ()
    KIND: ClassVar[str | None] = None
    VERSION: ClassVar[int] = 1
    LIMIT_BYTES: ClassVar[int] = 2**20

    def __init_subclass__(cls, *, kind: str | None = None, limit_bytes: int | None = None, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if kind is not None:
            cls.KIND = kind
        if limit_bytes is not None:
            cls.LIMIT_BYTES = limit_bytes

    def encode(self) -> bytes:
        """The record's canonical JSON."""
        return canonical.encode(_to_json(self))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read one record; raises `MalformedError` on anything but the canonical form of exactly this schema."""
        name = cls.KIND or cls.__name__
        try:
            table = canonical.decode(data, limit_bytes=cls.LIMIT_BYTES)
        except MalformedError as error:
            raise MalformedError(f"{name}: {error}") from error
        return cls.read(Fields(table, name))

    @classmethod
    def read(cls, table: Fields) -> Self:
        """Read from an already decoded table and close it."""
        if cls.KIND is not None:
            table.literal("kind", cls.KIND)
            table.literal("version", cls.VERSION)
        values = {name: read(table, name) for name, read in _readers(cls)}
        table.close()
        return cls(**values)


_SCHEMAS: dict[type[Record], tuple[tuple[str, Any], ...]] = {}


def _schema(cls: type[Record]) -> tuple[tuple[str, Any], ...]:
    if cls not in _SCHEMAS:
        hints = get_type_hints(cls, include_extras=True)
        _SCHEMAS[cls] = tuple((field.name, hints[field.name]) for field in fields(cls))  # type: ignore[arg-type]
    return _SCHEMAS[cls]


_Reader: TypeAlias = Callable[[Fields, str], Any]
_READERS: dict[type[Record], tuple[tuple[str, _Reader], ...]] = {}


def _readers(cls: type[Record]) -> tuple[tuple[str, _Reader], ...]:
    """What reads each field of a class: chosen once, as a log has millions of records."""
    if cls not in _READERS:
        _READERS[cls] = tuple((name, _reader(name, kind)) for name, kind in _schema(cls))
    return _READERS[cls]


def _reader(name: str, kind: Any) -> _Reader:
    origin = get_origin(kind)
    if origin is Annotated:
        return _form_reader(get_args(kind)[1])
    if origin in (Union, types.UnionType):
        inner = _reader(name, next(item for item in get_args(kind) if item is not type(None)))
        return lambda table, key: None if table.take_null(key) else inner(table, key)
    if origin is tuple:
        item_kind = get_args(kind)[0]
        if _is_record(item_kind):
            return lambda table, key: tuple(item_kind.read(item) for item in table.tables(key))
        item_reader = _reader(name, item_kind)
        return lambda table, key: tuple(item_reader(item, "item") for item in table.wrapped(key))
    if kind is bool:
        return Fields.boolean
    if _is_record(kind):
        return lambda table, key: kind.read(table.table(key))
    raise TypeError(f"{name}: no JSON form for {kind!r}")


def _form_reader(form: Form) -> _Reader:
    bounds: dict[str, int] = {}
    if form.size is not None:
        bounds["size"] = form.size
    if form.limit is not None:
        bounds["limit"] = form.limit
    method: _Reader = getattr(Fields, form.reader)
    read = partial(method, **bounds) if bounds else method
    return partial(_read_key, read) if form.is_key else read


def _read_key(read: _Reader, table: Fields, key: str) -> Any:
    value = read(table, key)
    try:
        VerifyingKey(value)
    except MalformedError as error:
        raise table.error(key, "an Ed25519 key of large order", value.hex()) from error
    return value


def _to_json(record: Record) -> dict[str, canonical.Json]:
    value: dict[str, canonical.Json] = {}
    if record.KIND is not None:
        value = {"kind": record.KIND, "version": record.VERSION}
    for name, kind in _schema(type(record)):
        value[name] = _write(getattr(record, name), kind)
    return value


def _write(value: Any, kind: Any) -> canonical.Json:
    if value is None:
        return None
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _write(value, next(item for item in get_args(kind) if item is not type(None)))
    if origin is tuple:
        inner = get_args(kind)[0]
        return [_write(item, inner) for item in value]
    if origin is Annotated:
        return _write_form(value, get_args(kind)[1].reader)
    if isinstance(value, Record):
        return _to_json(value)
    if isinstance(value, bool):
        return value
    raise TypeError(f"no JSON form for {kind!r}")


def _write_form(value: Any, reader: str) -> canonical.Json:
    if reader == "digest":
        return format_digest(value)
    if reader == "hexadecimal":
        return str(value.hex())
    if reader == "base64":
        return encode_base64(value)
    if reader == "decimal":
        return format_decimal(value)
    return value  # type: ignore[no-any-return]


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Record)


def kind_of(data: bytes, limit_bytes: int = 2**20) -> tuple[str, int]:
    """The `kind` and `version` of a canonical JSON object, to choose its parser by; raises `MalformedError`."""
    return kind_in(canonical.decode(data, limit_bytes=limit_bytes))


def kind_in(table: Mapping[str, object]) -> tuple[str, int]:
    """The same of an object that is decoded already; raises `MalformedError`."""
    kind, version = table.get("kind"), table.get("version")
    if not isinstance(kind, str) or type(version) is not int:
        raise MalformedError("record: expected a kind and a version")
    return kind, version
