"""transparency-dev/merkle: every vector of subtree proofs."""

import json
from base64 import b64decode
from pathlib import Path

import pytest

from audit.merkle import ProofError, TreeHead
from audit.subtree import Subtree, verify_subtree_consistency, verify_subtree_inclusion
from protocol.errors import MalformedError

VECTORS = json.loads((Path(__file__).parent / "data" / "transparency-dev-merkle" / "subtrees.json").read_text())

# Three vectors accept though a tree's root in them is no hash ("don't care 1"): we refuse such a root as such.
EMPTY = "subtreeconsistency/additional/subtree-is-empty-sizes-are-equal-{}-subtree-root-valid-tree-root-random-"
NOT_HASHES = {
    "subtreeconsistency/additional/sizes-are-equal-one-and-proof-is-empty.json",
    EMPTY.format("zero") + "proof-is-empty.json",
    EMPTY.format("one") + "proof-is-empty.json",
}


def hashes(vector):
    return [b64decode(item) for item in vector["proof"] or []]


def check_inclusion(vector):
    verify_subtree_inclusion(
        leaf=b64decode(vector["leafHash"]),
        index=vector["leafIdx"],
        proof=hashes(vector),
        subtree=Subtree(start=vector["start"], end=vector["end"], root=b64decode(vector["root"])),
    )


def check_consistency(vector):
    verify_subtree_consistency(
        subtree=Subtree(start=vector["start"], end=vector["end"], root=b64decode(vector["root1"])),
        tree=TreeHead(size=vector["size"], root=b64decode(vector["root2"])),
        proof=hashes(vector),
    )


def cases(kind):
    return [pytest.param(vector, id=vector["file"]) for vector in VECTORS[kind]]


def expect(vector, check):
    if vector["wantErr"] or vector["file"] in NOT_HASHES:
        with pytest.raises((ProofError, MalformedError)):
            check(vector)
    else:
        check(vector)


@pytest.mark.parametrize("vector", cases("subtreeinclusion"))
def test_inclusion(vector):
    expect(vector, check_inclusion)


@pytest.mark.parametrize("vector", cases("subtreeconsistency"))
def test_consistency(vector):
    expect(vector, check_consistency)


def test_vectors_are_all_there():
    verdicts = [vector["wantErr"] for kind in VECTORS.values() for vector in kind]
    assert len(verdicts) == 322
    assert verdicts.count(False) == 24
