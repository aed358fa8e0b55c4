"""transparency-dev/merkle: every inclusion and consistency vector, and the classic eight-leaf tree."""

import json
from base64 import b64decode
from pathlib import Path

import pytest

from audit.merkle import (
    HASH_BYTES,
    ProofError,
    Tree,
    TreeHead,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from protocol.errors import MalformedError

DATA = Path(__file__).parent / "data" / "transparency-dev-merkle"
VECTORS = json.loads((DATA / "proofs.json").read_text())
CONSTANTS = json.loads((DATA / "constants.json").read_text())

# The one vector that accepts, and whose roots are no hashes ("don't care 2"): we refuse such a root as such.
NOT_HASHES = "consistency/additional/sizes-are-equal-one-and-proof-is-empty.json"


def hashes(vector):
    return [b64decode(item) for item in vector["proof"] or []]


def check_inclusion(vector):
    verify_inclusion(
        leaf=b64decode(vector["leafHash"]),
        index=vector["leafIdx"],
        proof=hashes(vector),
        head=TreeHead(size=vector["treeSize"], root=b64decode(vector["root"])),
    )


def check_consistency(vector):
    verify_consistency(
        old=TreeHead(size=vector["size1"], root=b64decode(vector["root1"])),
        new=TreeHead(size=vector["size2"], root=b64decode(vector["root2"])),
        proof=hashes(vector),
    )


def cases(kind):
    return [pytest.param(vector, id=vector["file"]) for vector in VECTORS[kind]]


def expect(vector, check):
    if vector["wantErr"] or vector["file"] == NOT_HASHES:
        with pytest.raises((ProofError, MalformedError)):
            check(vector)
    else:
        check(vector)


@pytest.mark.parametrize("vector", cases("inclusion"))
def test_inclusion(vector):
    expect(vector, check_inclusion)


@pytest.mark.parametrize("vector", cases("consistency"))
def test_consistency(vector):
    expect(vector, check_consistency)


def test_vectors_are_all_there():
    verdicts = [vector["wantErr"] for kind in VECTORS.values() for vector in kind]
    assert len(verdicts) == 196
    assert verdicts.count(False) == 12


def test_generated_proofs_equal_the_vectors():
    tree = Tree(leaf_hash(bytes.fromhex(text)) for text in CONSTANTS["leaf_inputs_hex"])
    generated = 0
    for vector in VECTORS["inclusion"]:
        if not vector["wantErr"] and b64decode(vector["root"]) == tree.head(vector["treeSize"]).root:
            assert inclusion_proof(tree, vector["leafIdx"], vector["treeSize"]) == tuple(hashes(vector))
            generated += 1
    for vector in VECTORS["consistency"]:
        if not vector["wantErr"] and vector["file"] != NOT_HASHES:
            assert consistency_proof(tree, vector["size1"], vector["size2"]) == tuple(hashes(vector))
            generated += 1
    assert generated >= 9


def test_roots_and_nodes_of_the_eight_leaf_tree():
    tree = Tree()
    for size, root in enumerate(CONSTANTS["root_by_size_hex"]):
        assert tree.head().root.hex() == root
        if size < len(CONSTANTS["leaf_inputs_hex"]):
            tree.append(leaf_hash(bytes.fromhex(CONSTANTS["leaf_inputs_hex"][size])))
    for level, row in enumerate(CONSTANTS["node_hashes_hex_by_level"]):
        assert tree.row(level, 0, len(row)).hex() == "".join(row)
        assert all(tree.node(level, index).hex() == node for index, node in enumerate(row))
        assert len(tree.row(level, 0, 99)) == len(row) * HASH_BYTES
