"""Every parser of foreign bytes raises its own error and nothing else, and reads back what its encoder wrote."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import EMPTY_ROOT, TreeHead
from audit.note import Checkpoint, Note, NoteSignature, VerifierKey
from audit.proof import Receipt
from audit.tiles import (
    MAXIMUM_ENTRY_BYTES,
    Tile,
    encode_bundle,
    encode_hash_tile,
    parse_bundle,
    parse_hash_tile,
)
from protocol.errors import MalformedError, SignatureError
from protocol.keys import SigningKey

KEY = SigningKey(b"\x07" * 32)
ORIGIN = "simulated.example/log"
HEAD = TreeHead(size=1234, root=bytes(range(32)))
CHECKPOINT = Checkpoint.sign(ORIGIN, HEAD, KEY)
COSIGNED = CHECKPOINT.with_signatures([CHECKPOINT.cosign("silo.example/a", SigningKey(b"\x08" * 32), time=1)])
RECEIPT = Receipt(index=7, proof=(bytes(32), b"\xff" * 32), checkpoint=COSIGNED)
LINE = COSIGNED.note.signatures[1].encode()
VKEY = str(VerifierKey.of_log(ORIGIN, KEY.public))

any_text = st.text(st.characters(), max_size=120)  # Lone surrogates too.
hashes = st.binary(min_size=32, max_size=32)
names = st.text(min_size=1, max_size=20).filter(
    lambda name: not any(c.isspace() or c < " " or c == "+" or 0xD800 <= ord(c) < 0xE000 for c in name)
)
signatures = st.builds(
    NoteSignature, name=names, key_id=st.binary(min_size=4, max_size=4), payload=st.binary(min_size=1, max_size=80)
)


def mutated(data):
    """Bytes with a few of them cut out, doubled or replaced."""

    def change(edits):
        changed = bytearray(data)
        for kind, position, byte in edits:
            position %= len(changed) + 1
            if kind == 0:
                del changed[position : position + 1]
            elif kind == 1:
                changed[position:position] = bytes([byte])
            else:
                changed[position : position + 1] = bytes([byte])
        return bytes(changed)

    edit = st.tuples(st.integers(0, 2), st.integers(0, len(data)), st.integers(0, 255))
    return st.lists(edit, min_size=1, max_size=4).map(change)


@given(st.binary(max_size=400) | mutated(COSIGNED.encode()))
def test_notes(data):
    with contextlib.suppress(MalformedError):
        assert Note.parse(data).encode() == data


@given(st.binary(max_size=400) | mutated(COSIGNED.encode()))
def test_checkpoints(data):
    with contextlib.suppress(MalformedError):
        assert Checkpoint.parse(data, allow_extensions=True).encode() == data


@given(mutated(COSIGNED.encode()))
def test_a_changed_text_never_verifies(data):
    with contextlib.suppress(MalformedError, SignatureError):
        checkpoint = Checkpoint.parse(data, allow_extensions=True)
        checkpoint.verify(VerifierKey.of_log(ORIGIN, KEY.public))
        assert checkpoint.note.text == CHECKPOINT.note.text


@given(st.binary(max_size=400) | mutated(RECEIPT.encode()))
def test_receipts(data):
    with contextlib.suppress(MalformedError):
        assert Receipt.parse(data).encode() == data


@given(any_text | mutated(VKEY.encode()).map(lambda data: data.decode("utf-8", "replace")))
def test_verifier_keys(text):
    with contextlib.suppress(MalformedError):
        assert str(VerifierKey.parse(text)) == text


@given(any_text | mutated(LINE.encode()).map(lambda data: data.decode("utf-8", "replace")))
def test_signature_lines(line):
    with contextlib.suppress(MalformedError):
        assert NoteSignature.parse(line).encode() == line


@given(st.text(max_size=60) | mutated(b"tile/0/x001/x234/067.p/12").map(lambda data: data.decode("latin-1")))
def test_tile_paths(path):
    with contextlib.suppress(MalformedError):
        assert Tile.parse(path).path == path


@given(st.binary(max_size=600), st.integers(1, 256))
def test_bundles(data, width):
    with contextlib.suppress(MalformedError):
        entries = parse_bundle(data, width=width)
        assert len(entries) == width
        assert encode_bundle(entries) == data


@given(st.binary(max_size=600), st.integers(1, 256))
def test_hash_tiles(data, width):
    with contextlib.suppress(MalformedError):
        found = parse_hash_tile(data, width=width)
        assert len(found) == width
        assert encode_hash_tile(found) == data


@given(
    st.text(min_size=1, max_size=40).filter(lambda t: not any(c < " " or 0xD800 <= ord(c) < 0xE000 for c in t)),
    st.integers(1, 2**63 - 1),
    hashes,
    st.lists(signatures, min_size=1, max_size=4, unique_by=lambda s: s.signer),
)
def test_checkpoints_read_back(origin, size, root, lines):
    text = Checkpoint.sign("n", TreeHead(size=size, root=root), KEY).note.text.removeprefix(b"n")
    data = Note(text=origin.encode() + text, signatures=tuple(lines)).encode()
    checkpoint = Checkpoint.parse(data)
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (origin, size, root)
    assert checkpoint.note.signatures == tuple(lines)
    assert checkpoint.encode() == data


@given(st.integers(0, 2**63 - 1), st.lists(hashes, max_size=63))
def test_receipts_read_back(index, proof):
    receipt = Receipt(index=index, proof=tuple(proof), checkpoint=COSIGNED)
    assert Receipt.parse(receipt.encode()) == receipt


@given(st.none() | st.integers(0, 63), st.integers(0, 2**55), st.integers(1, 256))
def test_tile_paths_read_back(level, index, width):
    tile = Tile(level=level, index=index, width=width)
    if index < 2**55:
        assert Tile.parse(tile.path) == tile
    else:
        with pytest.raises(MalformedError):
            Tile.parse(tile.path)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20))
def test_bundles_read_back(entries):
    assert parse_bundle(encode_bundle(entries), width=len(entries)) == entries


def test_the_largest_entry_fits_and_one_byte_more_does_not():
    entries = [b"\xff" * MAXIMUM_ENTRY_BYTES]
    assert parse_bundle(encode_bundle(entries), width=1) == entries
    with pytest.raises(ValueError, match="at most 65535"):
        encode_bundle([b"\xff" * (MAXIMUM_ENTRY_BYTES + 1)])


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x05four", b"\x00\x01a\x00", b"\x00\x01a\x00\x01b", b""])
def test_bundles_that_do_not_end_where_they_should_are_refused(data):
    with pytest.raises(MalformedError, match="entry bundle"):
        parse_bundle(data, width=1)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/067.p/256",
        "tile/0/067.p/0",
        "tile/0/067.p/012",
        "tile/0/067.p/",
        "tile/64/067",
        "tile/00/067",
        "tile/-1/067",
        "tile/0/67",
        "tile/0/x000/067",
        "tile/0/001/067",
        "tile/0/x001/x067",
        "tile/0/067/",
        "/tile/0/067",
        "tile/0/../067",
        "tile/entry/067",
        "tile/0/٠٦٧",
        "tile/0/067\n",
        "tile/0/x099/x999/x999/x999/x999/x999/999",
    ],
)
def test_paths_in_another_spelling_are_refused(path):
    with pytest.raises(MalformedError):
        Tile.parse(path)


def test_the_empty_tree_has_no_tiles():
    assert TreeHead(size=0, root=EMPTY_ROOT).size == 0
    with pytest.raises(MalformedError):
        parse_hash_tile(b"", width=1)
