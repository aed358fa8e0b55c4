"""Allow-lists in TOML: read with the key named in every error, and written."""

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, Literal, TypeVar

from attestation.terms import LONGEST_TEXT
from protocol.agreement_toml import fields_of, toml_string
from protocol.fields import Fields

MAXIMUM_ITEMS = 4096
ANY: Final = "any"
_Value = TypeVar("_Value")
_Name = TypeVar("_Name", bound=StrEnum)


def items(
    fields: Fields, key: str, expected: str, read: Callable[[object], _Value | None], minimum: int = 1
) -> tuple[_Value, ...]:
    """A list whose items `read` turns into values; None from it means that the item is not `expected`."""
    if not fields.has(key):
        raise fields.missing(key, f"a list, each item {expected}")
    values: list[_Value] = []
    for item in fields.items(key, minimum=minimum, maximum=MAXIMUM_ITEMS):
        value = read(item)
        if value is None:
            raise fields.error(key, f"each item to be {expected}", item)
        values.append(value)
    return tuple(values)


def choices(fields: Fields, key: str, kind: type[_Name], minimum: int = 1) -> tuple[_Name, ...]:
    """A list of names of one kind."""
    names = {str(name): name for name in kind}
    expected = "one of " + ", ".join(f'"{name}"' for name in names)
    return items(fields, key, expected, lambda item: names.get(item) if isinstance(item, str) else None, minimum)


def hexadecimals(fields: Fields, key: str, size: int) -> tuple[bytes, ...]:
    """A list of byte strings of `size` bytes each."""
    form = re.compile(f"[0-9a-f]{{{2 * size}}}")

    def read(item: object) -> bytes | None:
        return bytes.fromhex(item) if isinstance(item, str) and form.fullmatch(item) else None

    return items(fields, key, f"{2 * size} lower-case hexadecimal digits", read)


def texts(fields: Fields, key: str, minimum: int = 1) -> tuple[str, ...]:
    """A list of printable strings."""

    def read(item: object) -> str | None:
        return item if isinstance(item, str) and 0 < len(item) <= LONGEST_TEXT and item.isprintable() else None

    return items(fields, key, f"a printable string of 1 to {LONGEST_TEXT} characters", read, minimum)


def hexadecimals_or_any(fields: Fields, where: str, key: str, size: int) -> tuple[bytes, ...] | Literal["any"]:
    """A list of byte strings of `size` bytes each, or "any"."""
    rest = _unless_any(fields, where, key)
    return ANY if rest is None else hexadecimals(rest, key, size)


def texts_or_any(fields: Fields, where: str, key: str) -> tuple[str, ...] | Literal["any"]:
    """A list of printable strings, or "any"."""
    rest = _unless_any(fields, where, key)
    return ANY if rest is None else texts(rest, key)


def _unless_any(fields: Fields, where: str, key: str) -> Fields | None:
    value = fields.take(key, '"any" or a list')
    if value == ANY:
        return None
    if not isinstance(value, list):
        raise fields.error(key, '"any" or a list', value)
    return fields_of({key: value}, where)


def hexadecimal_list_or_any(values: tuple[bytes, ...] | Literal["any"]) -> str:
    """What `hexadecimals_or_any` reads."""
    return toml_string(ANY) if values == ANY else hexadecimal_list(values)


def string_list_or_any(values: tuple[str, ...] | Literal["any"]) -> str:
    """What `texts_or_any` reads."""
    return toml_string(ANY) if values == ANY else string_list(values)


def string_list(values: Iterable[str]) -> str:
    """A TOML list of strings."""
    return f"[{', '.join(toml_string(value) for value in values)}]"


def hexadecimal_list(values: Iterable[bytes]) -> str:
    """A TOML list of byte strings in hexadecimal."""
    return string_list(value.hex() for value in values)
