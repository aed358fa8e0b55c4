"""Canonical JSON is judged by the standard library where it is ASCII, and by rfc8785 elsewhere: they agree."""

import json

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol import canonical
from protocol.errors import MalformedError

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53) - 2, 2**53 + 2) | st.text(max_size=6) | st.just("é\U0001f600")
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=5)


def is_canonical(data: bytes) -> bool:
    """By rfc8785 alone."""
    try:
        value = json.loads(data)
        return isinstance(value, dict) and rfc8785.dumps(value) == data
    except (ValueError, RecursionError):
        return False


def is_accepted(data: bytes) -> bool:
    try:
        canonical.decode(data, limit_bytes=2**20)
    except MalformedError:
        return False
    return True


@settings(max_examples=60)
@given(value=OBJECTS, ascii_only=st.booleans(), spaced=st.booleans(), ordered=st.booleans())
@example(value={"\U0001f600": 1, "￿": 2}, ascii_only=False, spaced=False, ordered=True)
@example(value={'\x7f\x1f"\\/': "\b\t\n\f\r"}, ascii_only=True, spaced=False, ordered=True)
def test_every_spelling_is_judged_as_rfc8785_does(value: object, ascii_only: bool, spaced: bool, ordered: bool) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators, sort_keys=ordered)
    data = text.encode("utf-8", "replace")
    assert is_accepted(data) == is_canonical(data)


@settings(max_examples=60)
@given(value=OBJECTS, position=st.integers(0, 200), byte=st.integers(0, 127))
def test_so_is_any_byte_put_into_it(value: dict[str, object], position: int, byte: int) -> None:
    try:
        data = bytearray(rfc8785.dumps(value))
    except ValueError:
        return
    data.insert(position % (len(data) + 1), byte)
    # What rfc8785 would write for a float, we never accept.
    accepted = is_accepted(bytes(data))
    if accepted:
        assert is_canonical(bytes(data))
    elif is_canonical(bytes(data)):
        assert any(isinstance(item, float) for item in _leaves(json.loads(data)))


@pytest.mark.parametrize("depth", [15, 16, 17, 900, 100_000])
def test_depth_is_bounded(depth: int) -> None:
    for opening, closing in ((b'{"a":', b"}"), (b"[", b"]")):
        data = b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"
        assert is_accepted(data) == (depth <= 16)


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]
