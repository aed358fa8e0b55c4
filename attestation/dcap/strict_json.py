"""JSON of which the exact bytes matter: values together with the text that stood for them.

Intel signs the bytes of an inner object, so that it must never be serialised again. Stricter than the standard
library: no key twice, whole numbers only, bounded in size and depth.
"""

import json
import re
from typing import Final, NamedTuple

from attestation.errors import EvidenceMalformed

LIMIT_CHARACTERS: Final = 128 * 1024
_MAXIMUM_DIGITS = 10
_SPACE = re.compile(r"[ \t\r\n]*")


class Member(NamedTuple):
    """A member of an object: its value, and its text as it stood there."""

    value: object
    text: str


class _Refused(ValueError):
    pass


def members(data: bytes, field: str) -> dict[str, Member]:
    """The members of one JSON object; raises `EvidenceMalformed` naming `field`."""
    if len(data) > LIMIT_CHARACTERS:
        raise EvidenceMalformed(field, expected=f"at most {LIMIT_CHARACTERS} bytes of JSON", found=str(len(data)))
    try:
        return _members(data.decode("utf-8"))
    except RecursionError as error:
        raise EvidenceMalformed(field, expected="JSON of few levels", found="too many") from error
    except ValueError as error:
        raise EvidenceMalformed(field, expected="a JSON object", found=ascii(str(error))[1:-1][:120]) from error


def _members(text: str) -> dict[str, Member]:
    found: dict[str, Member] = {}
    offset = _expect(text, 0, "{")
    while text[offset : offset + 1] != "}":
        if found:
            offset = _expect(text, offset, ",")
        key, offset = _DECODER.raw_decode(text, offset)
        if not isinstance(key, str) or key in found:
            raise _Refused("a key that is no string, or twice")
        start = _expect(text, offset, ":")
        value, end = _DECODER.raw_decode(text, start)
        found[key] = Member(value, text[start:end])
        offset = _skip(text, end)
    if _skip(text, offset + 1) != len(text):
        raise _Refused("something behind the object")
    return found


def _expect(text: str, offset: int, character: str) -> int:
    offset = _skip(text, offset)
    if text[offset : offset + 1] != character:
        raise _Refused(f"no {character!r} at {offset}")
    return _skip(text, offset + 1)


def _skip(text: str, offset: int) -> int:
    space = _SPACE.match(text, offset)
    return offset if space is None else space.end()


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("a key twice")
    return found


def _whole(text: str) -> int:
    if len(text) > _MAXIMUM_DIGITS:
        raise _Refused(f"a number of {len(text)} digits")
    return int(text)


def _refuse(text: str) -> object:
    raise _Refused(f"{text[:20]}: no whole number")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_whole, parse_float=_refuse, parse_constant=_refuse)
