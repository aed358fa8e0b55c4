"""JSON objects from strangers: read strictly, and asked for their members by name and type.

Trusts nothing. Duplicate members are refused, because two readers would believe different ones; so are NaN and its
kin. Names in errors are paths ("submods.gce.zone"). Sources: RFC 8259; RFC 7519 section 4.
"""

import json
import re
from collections.abc import Mapping
from typing import NoReturn

from attestation.errors import EvidenceMalformed

_LONGEST_TEXT = 8192
_LONGEST_LIST = 1024


def parse_object(data: bytes, field: str) -> Mapping[str, object]:
    """The JSON object in `data`; raises `EvidenceMalformed` naming `field`."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise EvidenceMalformed(field, expected="JSON in UTF-8", found=ascii(str(error))[1:-1][:120]) from error
    if not isinstance(value, dict):
        raise EvidenceMalformed(field, expected="a JSON object", found=type(value).__name__)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate members")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


class ClaimSet:
    """The members of one object. `where` is the object's path, empty for the outermost."""

    def __init__(self, members: Mapping[str, object], where: str = "") -> None:
        self._members = members
        self._where = where

    def path(self, name: str) -> str:
        """A member's name in errors."""
        return f"{self._where}.{name}" if self._where else name

    def has(self, name: str) -> bool:
        """Whether there is such a member, null aside."""
        return self._members.get(name) is not None

    def text(self, name: str) -> str:
        """A string that is text: without lone surrogates, of at most 8192 characters."""
        return _text(self.path(name), self._take(name, "a string"))

    def optional_text(self, name: str) -> str | None:
        """As `text`, or None where there is none."""
        return self.text(name) if self.has(name) else None

    def integer(self, name: str, maximum: int = 2**53 - 1) -> int:
        """An integer from 0 on; a fraction or a boolean is none."""
        value = self._take(name, "an integer")
        if type(value) is not int or not 0 <= value <= maximum:
            raise EvidenceMalformed(
                self.path(name), expected=f"an integer from 0 to {maximum}", found=ascii(value)[:80]
            )
        return value

    def boolean(self, name: str) -> bool:
        """True or false, and nothing that counts as one."""
        value = self._take(name, "true or false")
        if type(value) is not bool:
            raise EvidenceMalformed(self.path(name), expected="true or false", found=ascii(value)[:80])
        return value

    def optional_boolean(self, name: str) -> bool | None:
        """As `boolean`, or None where there is none."""
        return self.boolean(name) if self.has(name) else None

    def hexadecimal(self, name: str, size: int) -> bytes:
        """`size` bytes in hexadecimal."""
        value = self._take(name, f"{2 * size} hexadecimal digits")
        if not isinstance(value, str) or not re.fullmatch(f"[0-9a-fA-F]{{{2 * size}}}", value):
            raise EvidenceMalformed(self.path(name), expected=f"{2 * size} hexadecimal digits", found=ascii(value)[:80])
        return bytes.fromhex(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty where there is no such member."""
        if not self.has(name):
            return ()
        value = self._take(name, "a list of strings")
        if not isinstance(value, list) or len(value) > _LONGEST_LIST:
            raise EvidenceMalformed(self.path(name), expected="a list of strings", found=type(value).__name__)
        return tuple(_text(self.path(name), item) for item in value)

    def text_map(self, name: str) -> tuple[tuple[str, str], ...]:
        """An object of strings as sorted pairs; empty where there is no such member."""
        if not self.has(name):
            return ()
        value = self._take(name, "an object of strings")
        if not isinstance(value, dict) or len(value) > _LONGEST_LIST:
            raise EvidenceMalformed(self.path(name), expected="an object of strings", found=type(value).__name__)
        path = self.path(name)
        return tuple(sorted((_text(path, key), _text(path, item)) for key, item in value.items()))

    def inner(self, name: str) -> "ClaimSet":
        """An object; empty where there is no such member, so that what is missing in it is named."""
        value = self._members.get(name, {})
        if not isinstance(value, dict):
            raise EvidenceMalformed(self.path(name), expected="an object", found=type(value).__name__)
        return ClaimSet(value, self.path(name))

    def raw(self, name: str) -> object:
        """Whatever there is, or None: for members that have several forms."""
        return self._members.get(name)

    def _take(self, name: str, expected: str) -> object:
        if name not in self._members:
            raise EvidenceMalformed(self.path(name), expected=expected, found="no such claim")
        return self._members[name]


def _text(path: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        found = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise EvidenceMalformed(path, expected=f"a string of at most {_LONGEST_TEXT} characters", found=found)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EvidenceMalformed(path, expected="text", found="a lone surrogate") from error
    return value
