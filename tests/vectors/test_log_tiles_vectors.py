"""C2SP's tile paths, and a log that Tessera wrote: read by our reader, and written again by our writer."""

import json
from pathlib import Path

import pytest

from audit.log import LogReader, LogWriter
from audit.merkle import EMPTY_ROOT, Tree, leaf_hash, verify_consistency, verify_inclusion
from audit.note import Checkpoint, VerifierKey
from audit.resources import TILES
from audit.store import DirectoryStore, MemoryStore
from audit.tiles import Tile, entry_bundles, hash_tiles, parse_bundle, parse_hash_tile
from protocol.keys import SigningKey

DATA = Path(__file__).parent / "data"
PATHS = json.loads((DATA / "c2sp" / "tile_paths.json").read_text())
TESSERA = DATA / "tessera"
KEY = VerifierKey.parse((TESSERA / "vkey.txt").read_text().strip())


def tessera_checkpoint(size):
    return Checkpoint.parse((TESSERA / "log" / f"checkpoint.{size}").read_bytes())


def test_specification_path():
    case = PATHS[0]
    tile = Tile(level=case["level"], index=case["index"], width=case["width"])
    assert tile.path == case["path"]
    assert Tile.parse(case["path"]) == tile


@pytest.mark.parametrize("case", PATHS[1:])
def test_specification_widths(case):
    found = {}
    for tile in hash_tiles(case["size"]):
        if tile.partial:
            found[f"partial_l{tile.level}"] = tile.width
        else:
            found[f"full_l{tile.level}"] = found.get(f"full_l{tile.level}", 0) + 1
    assert found == {name: value for name, value in case.items() if name != "size"}


@pytest.mark.parametrize("size", range(16))
def test_tessera_checkpoints_and_tiles(size):
    checkpoint = tessera_checkpoint(size)
    checkpoint.verify(KEY)
    assert checkpoint.size == size
    if size == 0:
        assert checkpoint.root == EMPTY_ROOT
        return
    entries = parse_bundle((TESSERA / "log" / f"tile/entries/000.p/{size}").read_bytes(), width=size)
    hashes = parse_hash_tile((TESSERA / "log" / f"tile/0/000.p/{size}").read_bytes(), width=size)
    assert [leaf_hash(entry) for entry in entries] == hashes
    assert Tree(hashes).head() == checkpoint.head


def test_tessera_log_read_by_our_reader():
    reader = LogReader(DirectoryStore(TESSERA))
    assert reader.size == 15
    assert reader.root() == reader.newest().root
    assert reader.entry(14) == b"fivten"
    for index, entry in enumerate(reader.entries()):
        proof = reader.inclusion(index)
        verify_inclusion(leaf=leaf_hash(entry), index=index, proof=proof, head=reader.newest().head)
        reader.receipt(index).verify(entry, log_key=KEY, quorum=None)
    for size in range(1, 15):
        old = tessera_checkpoint(size).head
        verify_consistency(old=old, new=reader.newest().head, proof=reader.consistency(size))


def test_our_writer_writes_what_tessera_wrote():
    entries = list(LogReader(DirectoryStore(TESSERA)).entries())
    store = MemoryStore()
    writer = LogWriter.create(store, KEY.name, SigningKey(bytes(32)))
    for size, entry in enumerate(entries, 1):
        assert writer.append([entry]).note.text == tessera_checkpoint(size).note.text
    ours = {name: store.read(name) for name in store.list(TILES)}
    theirs = DirectoryStore(TESSERA)
    assert ours == {name: theirs.read(name) for name in theirs.list(TILES)}
    assert set(ours) == {
        f"log/{tile.path}" for size in range(1, 16) for tile in [*entry_bundles(size), *hash_tiles(size)]
    }
