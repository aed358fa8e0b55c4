"""Canonical JSON (RFC 8785) without floats: the form of entries, layouts and messages.

The signed or logged object is always the bytes as they were transmitted. `decode` accepts only the one
canonical spelling of a value, so that bytes and value stand for each other.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import rfc8785

from protocol.errors import MalformedError

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"

MAXIMUM_DEPTH = 16
_MAXIMUM_INTEGER = 2**53 - 1


def encode(value: Mapping[str, Json]) -> bytes:
    """The canonical bytes of an object. Floats are a programming error (write decimal strings)."""
    _reject_floats(value, 0)
    return rfc8785.dumps(value)


def decode(data: bytes, *, limit_bytes: int) -> dict[str, object]:
    """Parse one canonical JSON object.

    Raises `MalformedError` if it is longer than `limit_bytes`, not UTF-8 JSON, not an object, has floats,
    duplicate keys, integers beyond ±(2⁵³−1) or more than 16 levels, or is not in its canonical form.
    """
    if len(data) > limit_bytes:
        raise MalformedError(f"JSON: expected at most {limit_bytes} bytes, found {len(data)}")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
        if not isinstance(value, dict):
            raise MalformedError(f"JSON: expected an object, found {type(value).__name__}")
        canonical = _encode_ascii(value) if data.isascii() else encode(value)
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError(
            f"JSON: expected a canonical object, found other bytes ({type(error).__name__})"
        ) from error
    if canonical != data:
        raise MalformedError("JSON: expected the canonical form of RFC 8785, found another spelling of the same value")
    return value


def _no_float(text: str) -> object:
    raise MalformedError(f"JSON: expected no floating-point numbers, found {text[:32]!r}")


def _bounded(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > _MAXIMUM_INTEGER:
        raise MalformedError(f"JSON: expected integers within ±(2^53-1), found {text[:32]}…")
    return int(text)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedError("JSON: expected unique keys, found a duplicate")
    return value


_DECODER = json.JSONDecoder(
    parse_float=_no_float, parse_constant=_no_float, parse_int=_bounded, object_pairs_hook=_unique_keys
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _encode_ascii(value: dict[str, object]) -> bytes:
    """The canonical bytes of what was parsed, if they are ASCII; else others than any that are.

    Ten times as fast as `encode`. Parsing has kept out floats, large integers and keys that are no text; the standard
    library escapes as RFC 8785 §3.2.2.2 does, and sorts by code points, which is the order of §3.2.3 for ASCII keys.
    """
    _require_shallow(value, 0)
    return _ENCODER.encode(value).encode("utf-8")


def _require_shallow(value: object, depth: int) -> None:
    if depth > MAXIMUM_DEPTH:
        raise MalformedError(f"JSON: expected at most {MAXIMUM_DEPTH} levels")
    if type(value) in (dict, list):
        for item in value.values() if isinstance(value, dict) else value:  # type: ignore[attr-defined]
            if type(item) is not str:
                _require_shallow(item, depth + 1)


def _reject_floats(value: object, depth: int) -> None:
    if depth > MAXIMUM_DEPTH:
        raise MalformedError(f"JSON: expected at most {MAXIMUM_DEPTH} levels")
    if isinstance(value, float):
        raise MalformedError("JSON: expected no floating-point numbers")
    if isinstance(value, Mapping):
        for item in value.values():
            _reject_floats(item, depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            _reject_floats(item, depth + 1)
