"""Readers that we did not write accept what our code makes; where they judge otherwise, the written list says why.

`make check-readers` sets up their environment and says where it is. Nothing of ours runs in it.
"""

import json
from base64 import b64encode
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from audit_history import LOG_KEY, to_directory
from readers import cases
from readers.other_readers import ACCEPTS, BIN, CANNOT, READERS, REFUSES, run, verdicts_of, written_list

from audit.log import LogReader, LogWriter
from audit.merkle import leaf_hash
from audit.proof import Receipt
from audit.store import MemoryStore

pytestmark = pytest.mark.skipif(
    Path() == BIN, reason="make check-readers installs the readers and sets STRONGROOM_READERS"
)

# 600 leaves: full and partial tiles on two levels.
LONG = 600
TILE_READERS = ["aics-tlog", "tlog-scales"]


def text(data: bytes) -> str:
    return b64encode(data).decode()


def texts(hashes: tuple[bytes, ...]) -> list[str]:
    return [text(item) for item in hashes]


@cache
def long_log() -> MemoryStore:
    """Signed at every 50 entries; entries of all lengths up to the longest that a bundle can hold."""
    store = MemoryStore()
    writer = LogWriter.create(store, cases.ORIGIN, LOG_KEY)
    entries = [bytes([index % 251]) * (index % 97) for index in range(LONG)]
    entries[3] = b"x" * 65_535
    for start in range(0, LONG, 50):
        writer.append(entries[start : start + 50])
    return store


@cache
def answers(reader: str) -> dict[str, str | None]:
    return {name: said for kind in verdicts_of(reader, cases.asked()).values() for name, said in kind.items()}


def word(name: str, said: dict[str, str | None]) -> str:
    if name not in said:
        return CANNOT
    return ACCEPTS if said[name] is None else REFUSES


@pytest.mark.parametrize("reader", READERS)
def test_what_is_honest_is_accepted(reader: str) -> None:
    said = answers(reader)
    honest = [name for name in said if name.startswith("honest")]
    assert len(honest) >= 3
    assert {name: said[name] for name in honest} == dict.fromkeys(honest)
    assert said["key of a silo"] is None


def test_every_difference_is_on_the_written_list_and_nothing_else_is() -> None:
    ours = cases.verdicts()
    found = {}
    for name in ours:
        words = tuple(word(name, answers(reader)) for reader in READERS)
        if set(words) - {CANNOT} != {word(name, ours)}:
            found[name] = (word(name, ours), *words)
    assert found == {name: cells[:-1] for name, cells in written_list().items()}


def test_where_we_differ_we_are_the_stricter() -> None:
    """Nothing stands on the list that we accept and another reader refuses."""
    assert {cells[0] for cells in written_list().values()} == {REFUSES}


@pytest.mark.parametrize("reader", READERS)
def test_inclusion_proofs(reader: str) -> None:
    """Of many leaves and sizes; and each is refused for the next leaf, another index, and with a bit flipped."""
    log = LogReader(long_log())
    good, bad = {}, {}
    for size in (50, 100, 250, 300, 550, 600):
        head = log.checkpoint_at(size).head
        for index in {0, 1, size // 3, size // 2, size - 2, size - 1}:
            proof = log.inclusion(index, size)
            case = {
                "index": index,
                "size": size,
                "root": text(head.root),
                "leaf": text(log.entry(index)),
                "proof": texts(proof),
            }
            good[f"{index} of {size}"] = case
            flipped = bytes([proof[0][0] ^ 1]) + proof[0][1:]
            bad[f"{index} of {size}, another leaf"] = case | {"leaf": text(b"another")}
            bad[f"{index} of {size}, another index"] = case | {"index": (index + 1) % size}
            bad[f"{index} of {size}, no such index"] = case | {"index": index + size}
            bad[f"{index} of {size}, a bit flipped"] = case | {"proof": texts((flipped, *proof[1:]))}
            bad[f"{index} of {size}, cut"] = case | {"proof": texts(proof[:-1])}
            bad[f"{index} of {size}, longer"] = case | {"proof": texts((*proof, proof[0]))}
    said = verdicts_of(reader, {"inclusion": good | bad})["inclusion"]
    assert {name for name, words in said.items() if words is None} == set(good)


@pytest.mark.parametrize("reader", READERS)
def test_consistency_proofs(reader: str) -> None:
    log = LogReader(long_log())
    good, bad = {}, {}
    for old, new in [*pairwise(range(50, LONG + 1, 50)), (50, 600), (250, 600), (550, 600), (600, 600)]:
        proof = log.consistency(old, new)
        roots = [log.checkpoint_at(size).root for size in (old, new)]
        case = {"sizes": [old, new], "roots": [text(root) for root in roots], "proof": texts(proof)}
        good[f"{old} to {new}"] = case
        bad[f"{old} to {new}, another old root"] = case | {"roots": [text(bytes(32)), text(roots[1])]}
        bad[f"{old} to {new}, another new root"] = case | {"roots": [text(roots[0]), text(bytes(32))]}
        bad[f"{old} to {new}, longer"] = case | {"proof": texts((*proof, bytes(32)))}
        if old != new:
            bad[f"{old} to {new}, backwards"] = case | {"sizes": [new, old]}
            bad[f"{old} to {new}, cut"] = case | {"proof": texts(proof[:-1])}
    said = verdicts_of(reader, {"consistency": good | bad})["consistency"]
    assert {name for name, words in said.items() if words is None} == set(good)


@pytest.mark.parametrize("reader", TILE_READERS)
def test_tiles_and_bundles_and_the_proofs_made_from_them(reader: str, tmp_path: Path) -> None:
    """They read our folder of tiles, and make the proofs that we make; a changed tile is refused."""
    tiles = {}
    for name, store in (("the honest history", cases.STORE), ("600 entries", long_log())):
        log = LogReader(store)
        root = to_directory(store, tmp_path / name)
        old_sizes = [size for size in log.checkpoint_sizes() if size < log.size][::3]
        tiles[name] = {
            "log": str(root / "log"),
            "size": log.size,
            "root": text(log.newest().root),
            "inclusion": [[index, texts(log.inclusion(index))] for index in range(0, log.size, 7)],
            "consistency": [[old, texts(log.consistency(old))] for old in old_sizes],
        }
    changed = to_directory(long_log(), tmp_path / "changed")
    tile = changed / "log/tile/0/002.p/88"
    tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])
    tiles["changed"] = tiles["600 entries"] | {"log": str(changed / "log")}
    said = verdicts_of(reader, {"tiles": tiles})["tiles"]
    assert said.pop("changed") is not None
    assert said == {"the honest history": None, "600 entries": None}


def test_tlog_scales_writes_receipts_from_our_tiles_that_we_accept(tmp_path: Path) -> None:
    root = to_directory(cases.STORE, tmp_path)
    for index in (0, 17, cases.HEAD.size - 1):
        made = run("tlog-tiles", "gen-proof", root / "log", str(index))
        assert made.returncode == 0, made.stderr
        receipt = Receipt.parse(made.stdout.encode())
        entry = cases.READER.entry(index)
        assert receipt.verify(entry, log_key=cases.LOG, quorum=cases.QUORUM).index == index
        assert receipt.encode() == cases.READER.receipt(index).encode()
        assert run("tlog-tiles", "get-leaf", "--check", root / "log", str(index)).stdout.encode() == entry


def test_proofbundle_s_command_accepts_a_silos_receipt(tmp_path: Path) -> None:
    """The command that a silo's lawyer could run; and it refuses the receipt for another entry."""
    (tmp_path / "receipt.tlog-proof").write_bytes(cases.READER.receipt(17).encode())
    (tmp_path / "entry").write_bytes(cases.READER.entry(17))
    (tmp_path / "other").write_bytes(cases.READER.entry(18))
    for entry, accepted in (("entry", True), ("other", False)):
        done = run(
            "proofbundle", "verify-proof", tmp_path / "receipt.tlog-proof", "--payload-file", tmp_path / entry,
            "--log-vkey", str(cases.LOG), *(f"--witness-vkey={key}" for key in cases.COSIGNERS),
            "--threshold", "3", "--expected-origin", cases.ORIGIN, "--json",
        )  # fmt: skip
        assert json.loads(done.stdout)["ok"] is accepted
        assert (done.returncode == 0) is accepted


def test_aics_tlog_s_command_audits_our_folder(tmp_path: Path) -> None:
    """Checkpoint with its cosigners, a leaf, and that the log only grew."""
    root = to_directory(cases.STORE, tmp_path)
    (tmp_path / "log.vkey").write_text(f"{cases.LOG}\n")
    trust = ("--vkey-file", tmp_path / "log.vkey", "--tiles", root / "log")
    witnesses = [f"--witness-key={key}" for key in cases.COSIGNERS]
    checked = run("aics-tlog", "verify-checkpoint", *trust, *witnesses, "--quorum", "3")
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)["size"] == cases.HEAD.size
    leaf = leaf_hash(cases.READER.entry(17)).hex()
    included = run("aics-tlog", "verify-inclusion", *trust, "--index", "17", "--leaf-hash", leaf)
    assert included.returncode == 0, included.stdout
    wrong = run("aics-tlog", "verify-inclusion", *trust, "--index", "18", "--leaf-hash", leaf)
    assert wrong.returncode == 1
    grown = run("aics-tlog", "verify-consistency", *trust, "--old-checkpoint", root / "log/checkpoints/17.note")
    assert grown.returncode == 0, grown.stdout


@pytest.mark.parametrize("reader", READERS)
def test_a_bit_flipped_anywhere_in_a_checkpoint(reader: str) -> None:
    """None of them accepts one that we refuse, but for the spelling of base64 on the list and names that they skip."""
    good = cases.note()
    flipped = {}
    for position in range(0, len(good), 5):
        data = bytearray(good)
        data[position] ^= 1 << position % 8
        flipped[str(position)] = bytes(data)
    asked = cases.asked() | {"note": {name: text(data) for name, data in flipped.items()}, "receipt": {}, "vkey": {}}
    said = verdicts_of(reader, asked)["note"]
    for name, data in flipped.items():
        if said[name] is None and cases.ours("note", data) is not None:
            raise AssertionError(f"{reader} accepts bit {int(name) % 8} of byte {name}: {cases.ours('note', data)}")
