"""A closed schema, read field by field: every key is asked for by name, and what nobody asked for is an error.

Used for JSON objects and for TOML tables alike. Errors name the place, the key, what was expected and what
was found; `fail` chooses the error type of the caller's format.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping

from protocol.errors import MalformedError

NAME = re.compile(r"[a-z0-9-]{1,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,20})?(e-?[1-9][0-9]{0,2})?")


def _malformed(message: str) -> Exception:
    return MalformedError(message)


class Fields:
    """The keys of one table, each read once; `close` refuses what is left.

    `where` is the path of the table ("silo.admitted", "federation.toml: [training]").
    """

    def __init__(
        self, table: object, where: str, fail: Callable[[str], Exception] = _malformed, separator: str = "."
    ) -> None:
        self._where = where
        self._fail = fail
        self._separator = separator
        if not isinstance(table, Mapping):
            raise fail(f"{where}: expected a table, found {_kind(table)}")
        self._table = dict(table)

    def error(self, key: str, expected: str, found: object) -> Exception:
        """The error for one key, in the caller's type."""
        return self._fail(f"{self._where}{self._separator}{key}: expected {expected}, found {repr(found)[:120]}")

    def has(self, key: str) -> bool:
        return key in self._table

    def missing(self, key: str, expected: str) -> Exception:
        """The error for a key that is not there, in the caller's type."""
        return self._fail(f"{self._where}{self._separator}{key}: expected {expected}, found no such key")

    def take(self, key: str, expected: str) -> object:
        """Remove and return a key's value, or fail naming the key and what it should hold."""
        if key not in self._table:
            raise self.missing(key, expected)
        return self._table.pop(key)

    def text(self, key: str, *, limit: int = 255) -> str:
        value = self.take(key, "a string")
        if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
            raise self.error(key, f"a printable string of 1 to {limit} characters", value)
        return value

    def note(self, key: str, *, limit: int) -> str:
        """Text with line ends (a signed note); its own parser judges the content."""
        value = self.take(key, f"text of at most {limit} characters")
        if not isinstance(value, str) or len(value) > limit:
            raise self.error(key, f"text of at most {limit} characters", value)
        return value

    def name(self, key: str) -> str:
        value = self.take(key, "a name [a-z0-9-]{1,63}")
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise self.error(key, "a name [a-z0-9-]{1,63}", value)
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        expected = "one of " + ", ".join(f'"{item}"' for item in allowed)
        value = self.take(key, expected)
        if not isinstance(value, str) or value not in allowed:
            raise self.error(key, expected, value)
        return value

    def literal(self, key: str, value: str | int) -> None:
        """Require one exact value (a kind, a version)."""
        found = self.take(key, repr(value))
        if type(found) is not type(value) or found != value:
            raise self.error(key, repr(value), found)

    def integer(self, key: str, *, minimum: int = 0, maximum: int = 2**53 - 1) -> int:
        expected = f"an integer from {minimum} to {maximum}"
        value = self.take(key, expected)
        if type(value) is not int or not minimum <= value <= maximum:
            raise self.error(key, expected, value)
        return value

    def boolean(self, key: str) -> bool:
        value = self.take(key, "true or false")
        if type(value) is not bool:
            raise self.error(key, "true or false", value)
        return value

    def decimal(self, key: str) -> float:
        """A decimal string, as canonical JSON holds numbers that are not integers."""
        value = self.take(key, "a decimal string")
        if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
            raise self.error(key, "a decimal string", value)
        return float(value)

    def base64(self, key: str, *, size: int | None = None, limit: int = 2**20) -> bytes:
        """Standard padded base64, of `size` bytes exactly or of at most `limit`."""
        expected = f"base64 of {size} bytes" if size is not None else f"base64 of at most {limit} bytes"
        value = self.take(key, expected)
        if not isinstance(value, str) or len(value) > 4 * limit:
            raise self.error(key, expected, value)
        data = decode_base64(value)
        if data is None or len(data) > limit or (size is not None and len(data) != size):
            raise self.error(key, expected, value)
        return data

    def digest(self, key: str) -> bytes:
        """`sha256:` and 64 lower-case hexadecimal digits; returns 32 bytes."""
        expected = '"sha256:" and 64 hexadecimal digits'
        value = self.take(key, expected)
        data = parse_digest(value) if isinstance(value, str) else None
        if data is None:
            raise self.error(key, expected, value)
        return data

    def optional_digest(self, key: str) -> bytes | None:
        return None if self.take_null(key) else self.digest(key)

    def hexadecimal(self, key: str, *, size: int) -> bytes:
        expected = f"{2 * size} lower-case hexadecimal digits"
        value = self.take(key, expected)
        if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", value):
            raise self.error(key, expected, value)
        return bytes.fromhex(value)

    def take_null(self, key: str) -> bool:
        """Whether the key holds null, in which case it is taken."""
        if key in self._table and self._table[key] is None:
            del self._table[key]
            return True
        return False

    def table(self, key: str) -> "Fields":
        value = self.take(key, "a table")
        return Fields(value, f"{self._where}{self._separator}{key}", self._fail, self._separator)

    def items(self, key: str, *, minimum: int = 0, maximum: int = 4096) -> list[object]:
        expected = f"a list of {minimum} to {maximum} items"
        value = self.take(key, expected)
        if not isinstance(value, list) or not minimum <= len(value) <= maximum:
            raise self.error(key, expected, value)
        return value

    def tables(self, key: str, *, minimum: int = 0, maximum: int = 4096) -> list["Fields"]:
        items = self.items(key, minimum=minimum, maximum=maximum)
        place = f"{self._where}{self._separator}{key}"
        return [Fields(item, f"{place}[{i}]", self._fail, self._separator) for i, item in enumerate(items)]

    def wrapped(self, key: str, *, minimum: int = 0, maximum: int = 4096) -> list["Fields"]:
        """A list of plain values, each as a table with the one key "item"."""
        items = self.items(key, minimum=minimum, maximum=maximum)
        place = f"{self._where}{self._separator}{key}"
        return [Fields({"item": item}, f"{place}[{i}]", self._fail, self._separator) for i, item in enumerate(items)]

    def close(self) -> None:
        """Fail if any key was not asked for."""
        if self._table:
            key = sorted(self._table)[0]
            raise self._fail(f"{self._where}{self._separator}{key}: expected no such key, found one (misspelt?)")


def parse_digest(text: str) -> bytes | None:
    """`sha256:<64 hex>` to 32 bytes, or None."""
    return bytes.fromhex(text[7:]) if _DIGEST.fullmatch(text) else None


def format_digest(digest: bytes) -> str:
    """32 bytes to `sha256:<64 hex>`."""
    return f"sha256:{digest.hex()}"


def encode_base64(data: bytes) -> str:
    """Standard padded base64."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes | None:
    """Strict standard base64: padding, alphabet and unused bits must all be right; None otherwise."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if encode_base64(data) == text else None


def format_decimal(value: float) -> str:
    """The shortest decimal string that reads back as the same float64 (no floats in canonical JSON)."""
    text = repr(float(value)).replace("e+", "e").replace("e-0", "e-").replace("e0", "e")
    return text.removesuffix(".0")


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else repr(value)[:80]
