"""proofbundle: its verdict on each case."""

from base64 import b64decode

from judged import answer
from proofbundle.checkpoint import verify_cosignature, verify_witnessed_checkpoint
from proofbundle.merkle import verify_consistency, verify_inclusion
from proofbundle.tlogproof import verify_tlog_proof


def note(case, asked):
    result = verify_witnessed_checkpoint(
        b64decode(case).decode(),
        asked["log_key"],
        asked["cosigners"],
        threshold=asked["threshold"],
        expected_origin=asked["origin"],
    )
    if not result["ok"]:
        raise ValueError("log" if not result["log_ok"] else "witnesses")


def receipt(case, asked):
    result = verify_tlog_proof(
        b64decode(case["receipt"]).decode(),
        b64decode(case["leaf"]),
        asked["log_key"],
        asked["cosigners"],
        threshold=asked["threshold"],
        expected_origin=asked["origin"],
    )
    if not result["ok"]:
        raise ValueError(result.get("detail") or str({key: result[key] for key in result if key.endswith("_ok")}))


def vkey(case, asked):
    """It reads a key where it uses one."""
    verify_cosignature(b64decode(asked["any_note"]).decode(), case)


def inclusion(case, asked):
    proof, root = [b64decode(item) for item in case["proof"]], b64decode(case["root"])
    if not verify_inclusion(b64decode(case["leaf"]), case["index"], case["size"], proof, root):
        raise ValueError("does not verify")


def consistency(case, asked):
    proof, roots = [b64decode(item) for item in case["proof"]], map(b64decode, case["roots"])
    if not verify_consistency(*case["sizes"], proof, *roots):
        raise ValueError("does not verify")


answer(note=note, receipt=receipt, vkey=vkey, inclusion=inclusion, consistency=consistency)
