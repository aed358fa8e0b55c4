"""RFC 8785: the author's own inputs and outputs, as far as our JSON has what they have (objects, and no floats)."""

import json
from pathlib import Path

import pytest

from protocol.canonical import decode, encode
from protocol.errors import MalformedError

DATA = Path(__file__).parent / "data" / "jcs-rfc8785"
NAMES = ["french", "structures", "unicode", "weird"]


def vector(name):
    data = (DATA / "output" / f"{name}.json").read_bytes()
    assert bytes.fromhex((DATA / "outhex" / f"{name}.txt").read_text()) == data
    return (DATA / "input" / f"{name}.json").read_bytes(), data


@pytest.mark.parametrize("name", NAMES)
def test_objects(name):
    source, canonical = vector(name)
    # The source of "structures" spells an integer as 56.0.
    value = json.loads(source, parse_float=lambda text: int(text.removesuffix(".0")))
    assert encode(value) == canonical
    assert decode(canonical, limit_bytes=10_000) == value
    if source != canonical:
        with pytest.raises(MalformedError):
            decode(source, limit_bytes=10_000)


def test_a_list_inside_an_object_and_never_alone():
    source, canonical = vector("arrays")
    assert encode({"list": json.loads(source)}) == b'{"list":' + canonical + b"}"
    with pytest.raises(MalformedError, match="expected an object"):
        decode(canonical, limit_bytes=10_000)


def test_floats_are_refused_and_the_rest_of_that_vector_is_not():
    source, canonical = vector("values")
    with pytest.raises(MalformedError, match="no floating-point numbers"):
        decode(canonical, limit_bytes=10_000)
    value = json.loads(source)
    del value["numbers"]
    rest = canonical.replace(b'"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],', b"")
    assert encode(value) == rest
    assert decode(rest, limit_bytes=10_000) == value
