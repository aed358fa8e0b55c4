"""How a model's tensors become chunks, and what is not a layout."""

import hashlib
import json

import pytest

from attestation.encoding import labelled_digest
from protocol.errors import MalformedError
from protocol.layout import CHUNK_COORDINATES, Chunk, Layout, Role, Section, Tensor, content_digest


def tensor(
    name: str, *shape: int, dtype: str = "float32", role: Role = Role.PARAMETER, alias: str | None = None
) -> Tensor:
    return Tensor(name=name, shape=shape, dtype=dtype, role=role, alias=alias)


MIXED = Layout(
    tensors=(
        tensor("frozen", 5, role=Role.FROZEN),
        tensor("weight", 2**18 + 3),
        tensor("running_mean", 7, role=Role.BUFFER),
        tensor("count", dtype="int64", role=Role.BUFFER),
        tensor("tied", 2**18 + 3, alias="weight"),
        tensor("empty", 0, 9),
        tensor("scale", dtype="bfloat16"),
    )
)


def test_sections_follow_one_another_and_each_begins_a_chunk() -> None:
    assert [(c.index, c.section, c.start, c.coordinates, c.size_bytes) for c in MIXED.chunks] == [
        (0, Section.PARAMETERS, 0, 2**18, 2**20),
        (1, Section.PARAMETERS, 2**18, 4, 16),
        (2, Section.FLOAT_BUFFERS, 0, 7, 28),
        (3, Section.INTEGER_BUFFERS, 0, 1, 8),
        (4, Section.FROZEN, 0, 5, 20),
    ]


def test_updates_and_controls_are_prefixes_of_the_model() -> None:
    assert tuple(MIXED.update_chunks) == tuple(MIXED.chunks)[:4]
    assert tuple(MIXED.control_chunks) == tuple(MIXED.chunks)[:2]


def test_chunks_are_a_sequence() -> None:
    chunks = MIXED.chunks
    assert len(chunks) == 5
    assert [chunks[i] for i in range(5)] == list(chunks)
    assert chunks[-1] == chunks[4]
    assert chunks[1:3] == (chunks[1], chunks[2])
    assert chunks == MIXED.chunks
    for index in (5, -6):
        with pytest.raises(IndexError):
            chunks[index]


def test_offsets_skip_aliases_and_empty_tensors_take_no_room() -> None:
    assert [(t.name, offset) for t, offset in MIXED.tensors_in(Section.PARAMETERS)] == [
        ("weight", 0),
        ("empty", 2**18 + 3),
        ("scale", 2**18 + 3),
    ]
    assert MIXED.coordinates(Section.PARAMETERS) == 2**18 + 4


def test_a_huge_model_costs_nothing_to_describe() -> None:
    layout = Layout(tensors=(tensor("a", 2**20, 2**20),))
    assert len(layout.chunks) == 2**22
    assert layout.chunks[-1] == Chunk(
        index=2**22 - 1, section=Section.PARAMETERS, start=2**40 - 2**18, coordinates=CHUNK_COORDINATES
    )


def test_digest_is_that_of_the_file() -> None:
    assert MIXED.digest == hashlib.sha256(MIXED.encode()).digest()
    assert Layout.parse(MIXED.encode()) == MIXED


def test_the_file_states_the_rule_of_every_tensor() -> None:
    rules = {row["name"]: row["rule"] for row in json.loads(MIXED.encode())["tensors"]}
    assert rules["weight"] == "train"
    assert rules["running_mean"] == "mean"
    assert rules["count"] == "maximum"
    assert rules["frozen"] == "keep"


def test_content_digest_binds_layout_order_and_number_of_chunks() -> None:
    one, two, layout = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
    digest = content_digest(layout, [one, two])
    assert digest == labelled_digest("strongroom/content/v1", layout, one, two)
    assert (
        len(
            {digest, content_digest(layout, [two, one]), content_digest(layout, [one]), content_digest(one, [one, two])}
        )
        == 4
    )


@pytest.mark.parametrize(
    ("tensors", "error"),
    [
        ((), "layout: expected 1 to 100000 tensors, found 0"),
        ((tensor("a", 1), tensor("a", 1)), "layout: expected unique tensor names, found 'a' twice"),
        (
            (tensor("a", 1, role=Role.BUFFER),),
            "layout: expected at least one trainable coordinate, found none",
        ),
        ((tensor("a", 0),), "layout: expected at least one trainable coordinate, found none"),
        (
            (tensor("a", 2**20, 2**20), tensor("b", 1)),
            "layout: expected at most 2^40 coordinates, found 1099511627777",
        ),
        (
            (tensor("a", 1), tensor("b", 1, alias="c")),
            "layout: tensor 'b' alias: expected an earlier tensor that is no alias, found no such tensor ('c')",
        ),
        (
            (tensor("a", 1), tensor("b", 1, alias="b")),
            "layout: tensor 'b' alias: expected an earlier tensor that is no alias, found no such tensor ('b')",
        ),
        (
            (tensor("a", 1), tensor("b", 1, alias="a"), tensor("c", 1, alias="b")),
            "layout: tensor 'c' alias: expected an earlier tensor that is no alias, found an alias ('b')",
        ),
        (
            (tensor("a", 2, 3), tensor("b", 3, 2, alias="a")),
            "layout: tensor 'b' alias: expected the shape, dtype and role of 'a', found others",
        ),
        (
            (tensor("a", 2), tensor("b", 2, role=Role.FROZEN, alias="a")),
            "layout: tensor 'b' alias: expected the shape, dtype and role of 'a', found others",
        ),
    ],
)
def test_a_set_of_tensors_that_is_no_layout(tensors: tuple[Tensor, ...], error: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Layout(tensors=tensors)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "role", "error"),
    [
        (
            "",
            (),
            "float32",
            Role.PARAMETER,
            "layout: a tensor's name: expected 1 to 512 printable characters, found ''",
        ),
        (
            "a\n",
            (),
            "float32",
            Role.PARAMETER,
            r"layout: a tensor's name: expected 1 to 512 printable characters, found 'a\n'",
        ),
        (
            "a",
            (-1,),
            "float32",
            Role.PARAMETER,
            "layout: tensor 'a' shape: expected at most 32 dimensions of 0 to 2^40, found [-1]",
        ),
        (
            "a",
            (2**40 + 1,),
            "float32",
            Role.PARAMETER,
            "layout: tensor 'a' shape: expected at most 32 dimensions of 0 to 2^40, found [1099511627777]",
        ),
        (
            "a",
            (1,) * 33,
            "float32",
            Role.PARAMETER,
            "layout: tensor 'a' shape: expected at most 32 dimensions of 0 to 2^40, found [1, 1, 1, 1, 1, 1, 1, 1]",
        ),
        (
            "a",
            (),
            "float64",
            Role.PARAMETER,
            "layout: tensor 'a' dtype: expected one of float32, float16, bfloat16 in role parameter, found float64",
        ),
        (
            "a",
            (),
            "int64",
            Role.PARAMETER,
            "layout: tensor 'a' dtype: expected one of float32, float16, bfloat16 in role parameter, found int64",
        ),
        (
            "a",
            (),
            "float64",
            Role.BUFFER,
            "layout: tensor 'a' dtype: expected one of float32, float16, bfloat16 in role buffer, found float64",
        ),
        (
            "a",
            (),
            "int64",
            Role.FROZEN,
            (
                "layout: tensor 'a' dtype: expected one of float32, float16, bfloat16, bool, uint8, int8, int16 "
                "in role frozen, found int64"
            ),
        ),
    ],
)
def test_a_tensor_that_is_none(name: str, shape: tuple[int, ...], dtype: str, role: Role, error: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Tensor(name=name, shape=shape, dtype=dtype, role=role)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b'"version":1', b'"version":2', "layout.version: expected 1, found 2"),
        (b'"kind":"strongroom-layout"', b'"kind":"other"', "layout.kind: expected 'strongroom-layout', found 'other'"),
        (b'"shape":[5]', b'"shape":["5"]', "layout.tensors[0].shape: expected a list of integers, found ['5']"),
        (b'"shape":[5]', b'"shape":[true]', "layout.tensors[0].shape: expected a list of integers, found [True]"),
        (b'"shape":[5]', b'"shape":5', "layout.tensors[0].shape: expected a list of 0 to 32 items, found 5"),
        (
            b'"shape":[5]',
            b'"shape":[5],"stride":[1]',
            "layout.tensors[0].stride: expected no such key, found one (misspelt?)",
        ),
        (b'"rule":"keep"', b'"rule":"train"', "layout.tensors[0].rule: expected 'keep', found 'train'"),
        (b'"alias":null', b'"alias":0', "layout.tensors[0].alias: expected null or a tensor's name, found 0"),
        (b'"shape":[5]', b'"shape":[5.0]', "JSON: expected no floating-point numbers, found '5.0'"),
        (
            b'"tensors":[',
            b'"tensors": [',
            "JSON: expected the canonical form of RFC 8785, found another spelling of the same value",
        ),
    ],
)
def test_a_file_that_is_no_layout(old: bytes, new: bytes, error: str) -> None:
    data = MIXED.encode()
    assert old in data
    with pytest.raises(MalformedError) as caught:
        Layout.parse(data.replace(old, new, 1))
    assert str(caught.value) == error
