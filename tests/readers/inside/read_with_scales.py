"""tlog-scales: its verdict on each case."""

from base64 import b64decode

from judged import answer
from tlog_scales.backend import make_backend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey, VkeySet
from tlog_scales.tiles import leaf_hash
from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof


def note(case, asked):
    """It has no policy of its own: the origin is compared and the witnesses counted here, as its user would."""
    checkpoint = Checkpoint.from_text(b64decode(case).decode())
    if checkpoint.origin != asked["origin"]:
        raise ValueError("another origin")
    checkpoint.verify(Vkey.from_string(asked["log_key"]))
    witnesses = VkeySet(*map(Vkey.from_string, asked["cosigners"]))
    voted = {key.name for key, _ in witnesses.verify(checkpoint.signatures, checkpoint)}
    if len(voted) < asked["threshold"]:
        raise ValueError(f"only {len(voted)} witnesses")


def vkey(case, asked):
    Vkey.from_string(case).get_verifier()


def inclusion(case, asked):
    proof = InclusionProof(case["index"], case["size"], [b64decode(item) for item in case["proof"]])
    proof.check(leaf_hash(b64decode(case["leaf"])), b64decode(case["root"]))


def consistency(case, asked):
    proof = ConsistencyProof(*case["sizes"], [b64decode(item) for item in case["proof"]])
    proof.check(*map(b64decode, case["roots"]))


def tiles(case, asked):
    """The root from the tiles, all entries, and proofs made from them."""
    reader, size, root = TilesReader(make_backend(case["log"])), case["size"], b64decode(case["root"])
    reader.set_size(size)
    if reader.calculate_root_hash() != root:
        raise ValueError("another root")
    for index, proof in case["inclusion"]:
        made = reader.get_inclusion_proof(index, size)
        made.check(leaf_hash(reader.get_entry(index)), root)
        if made.node_hashes != [b64decode(item) for item in proof]:
            raise ValueError(f"another proof of leaf {index}")
    for old, proof in case["consistency"]:
        if reader.get_consistency_proof(old, size).node_hashes != [b64decode(item) for item in proof]:
            raise ValueError(f"another proof from size {old}")


answer(note=note, vkey=vkey, inclusion=inclusion, consistency=consistency, tiles=tiles)
