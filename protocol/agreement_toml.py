"""From the bytes of `federation.toml` to plain tables, or one line that says what is wrong with them.

Trusts nothing. The same text must look the same to every party who reads it: no byte-order mark, no line ends but LF,
no control, bidirectional or otherwise invisible characters, neither in the file nor behind an escape in a string.
`protocol.agreement` calls it.
"""

import tomli

from protocol.errors import ProtocolError
from protocol.fields import Fields

LIMIT_BYTES = 2**20
_MAXIMUM_DEPTH = 8
_MAXIMUM_INTEGER = 2**63


class AgreementError(ProtocolError):
    """An agreement that can't be one: a single line naming file, key, what was expected and what was found."""


def read_tables(data: bytes, file: str) -> dict[str, object]:
    """Decode and parse; `file` is how errors name it. Raises `AgreementError` on any bytes that are not clean TOML."""
    text = _clean_text(data, file)
    try:
        document = tomli.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise AgreementError(f"{file}: expected TOML, found an error: {printable(reason)}") from error
    _check_values(document, file)
    return document


def printable(text: str) -> str:
    """The text with everything that would not print as itself written as `U+XXXX`, so that an error stays one line."""
    return "".join(char if char.isprintable() else f"U+{ord(char):04X}" for char in text)


def fields_of(table: object, where: str) -> Fields:
    """Closed-schema reader whose errors read `where key: expected …, found …`, as `AgreementError`."""
    return Fields(table, where, AgreementError, " ")


def tables_of(fields: Fields, key: str, heading: str, maximum: int) -> list[object]:
    """The tables under a `[[heading]]`, at least one; not yet known to be tables."""
    expected = f"1 to {maximum} [[{heading}]] tables"
    value = fields.take(key, expected)
    if not isinstance(value, list) or not 1 <= len(value) <= maximum:
        raise fields.error(key, expected, value)
    return value


def toml_string(text: str) -> str:
    """A TOML basic string that reads back as `text`."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in escaped) + '"'


def _clean_text(data: bytes, file: str) -> str:
    if len(data) > LIMIT_BYTES:
        raise AgreementError(f"{file}: expected at most {LIMIT_BYTES} bytes, found {len(data)}")
    if data.startswith(b"\xef\xbb\xbf"):
        raise AgreementError(f"{file}: expected no byte-order mark, found one")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AgreementError(f"{file}: expected UTF-8, found other bytes on line {line}") from error
    for number, line_text in enumerate(text.split("\n"), start=1):
        if not line_text.isprintable():
            found = _first_unprintable(line_text)
            if found == "U+000D":
                raise AgreementError(f"{file}: expected LF line ends, found a carriage return on line {number}")
            raise AgreementError(
                f"{file}: expected no control, bidirectional or invisible characters, found {found} on line {number}"
            )
    return text


def _first_unprintable(text: str) -> str:
    return next(f"U+{ord(char):04X}" for char in text if not char.isprintable())


def _check_values(document: dict[str, object], file: str) -> None:
    """Refuse what an error message could not show: deep nesting, endless integers, characters behind escapes."""
    pending: list[tuple[object, int]] = [(document, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > _MAXIMUM_DEPTH:
            raise AgreementError(f"{file}: expected at most {_MAXIMUM_DEPTH} levels of tables, found more")
        if isinstance(value, str) and not value.isprintable():
            raise AgreementError(
                f"{file}: expected no control, bidirectional or invisible characters in keys and strings, "
                f"found an escaped {_first_unprintable(value)}"
            )
        if type(value) is int and not -_MAXIMUM_INTEGER <= value < _MAXIMUM_INTEGER:
            raise AgreementError(f"{file}: expected integers of 64 bits, found one of {value.bit_length()} bits")
        if isinstance(value, dict):
            pending += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            pending += [(item, depth + 1) for item in value]
