"""One line of a table of reference values."""

from typing import NamedTuple


class Row(NamedTuple):
    """A key, its value in TOML, and what it means to somebody who pastes it: a comment, without a line end."""

    key: str
    value: str
    meaning: str
