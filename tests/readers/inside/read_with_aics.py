"""aics-tlog: its verdict on each case."""

from base64 import b64decode
from pathlib import Path

from aics_tlog import (
    FileSystemTileReader,
    WitnessPolicy,
    audit_tiles,
    consistency_proof_from_tiles,
    inclusion_proof_from_tiles,
    leaf_hash,
    parse_note,
    parse_vkey,
    tree_root_from_tiles,
    verify_checkpoint,
    verify_consistency,
    verify_inclusion,
)
from judged import answer


def note(case, asked):
    policy = WitnessPolicy(quorum=asked["threshold"], witnesses=tuple(map(parse_vkey, asked["cosigners"])))
    data = parse_note(b64decode(case))
    result = verify_checkpoint(data, parse_vkey(asked["log_key"]), policy=policy, expected_origin=asked["origin"])
    if not result.ok:
        raise ValueError(result.error)


def vkey(case, asked):
    parse_vkey(case)


def inclusion(case, asked):
    proof, root = [b64decode(item) for item in case["proof"]], b64decode(case["root"])
    if not verify_inclusion(leaf_hash(b64decode(case["leaf"])), case["index"], case["size"], proof, root):
        raise ValueError("does not verify")


def consistency(case, asked):
    proof, roots = [b64decode(item) for item in case["proof"]], map(b64decode, case["roots"])
    if not verify_consistency(*case["sizes"], *roots, proof):
        raise ValueError("does not verify")


def tiles(case, asked):
    """Every tile and bundle under the root, and proofs made from them."""
    reader, size, root = FileSystemTileReader(Path(case["log"])), case["size"], b64decode(case["root"])
    if tree_root_from_tiles(reader, size) != root:
        raise ValueError("another root")
    audit_tiles(reader, size, root)
    for index, proof in case["inclusion"]:
        if inclusion_proof_from_tiles(reader, index, size) != [b64decode(item) for item in proof]:
            raise ValueError(f"another proof of leaf {index}")
    for old, proof in case["consistency"]:
        if consistency_proof_from_tiles(reader, old, size) != [b64decode(item) for item in proof]:
            raise ValueError(f"another proof from size {old}")


answer(note=note, vkey=vkey, inclusion=inclusion, consistency=consistency, tiles=tiles)
