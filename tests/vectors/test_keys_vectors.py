"""Wycheproof: Ed25519 and ML-DSA-44 signatures at their edges, through the functions that check ours."""

import json
import lzma
from pathlib import Path

import pytest

from audit.signature_types import SignatureType, check_key, verify_mldsa
from protocol.errors import MalformedError, SignatureError
from protocol.keys import VerifyingKey

DATA = Path(__file__).parent / "data" / "wycheproof"
ED25519 = json.loads((DATA / "ed25519_test.json").read_text())
MLDSA = json.loads(lzma.decompress((DATA / "mldsa_44_verify_test.json.xz").read_bytes()))


def cases(vectors, key):
    return [
        pytest.param(key(group), case, id=f"{case['tcId']} {case['comment'][:40]}")
        for group in vectors["testGroups"]
        for case in group["tests"]
    ]


@pytest.mark.parametrize(("public", "case"), cases(ED25519, lambda group: group["publicKey"]["pk"]))
def test_ed25519(public, case):
    key, signature, message = (bytes.fromhex(text) for text in (public, case["sig"], case["msg"]))
    if case["result"] == "valid":
        VerifyingKey(key).verify_unlabelled_note(signature, message)
    else:
        with pytest.raises(SignatureError):
            VerifyingKey(key).verify_unlabelled_note(signature, message)


@pytest.mark.parametrize(("public", "case"), cases(MLDSA, lambda group: group["publicKey"]))
def test_mldsa_44(public, case):
    """A signature under a context is one over something else: a cosignature has none."""
    key, signature, message = (bytes.fromhex(text) for text in (public, case["sig"], case["msg"]))
    if "IncorrectPublicKeyLength" in case["flags"]:
        with pytest.raises(MalformedError):
            check_key(SignatureType.MLDSA_COSIGNATURE, key)
    elif case["result"] == "valid" and not case.get("ctx"):
        check_key(SignatureType.MLDSA_COSIGNATURE, key)
        verify_mldsa("w.example/w", key, signature, message)
    else:
        with pytest.raises(SignatureError):
            verify_mldsa("w.example/w", key, signature, message)


def test_vectors_are_all_there():
    for vectors, valid in ((ED25519, 88), (MLDSA, 77)):
        results = [case["result"] for group in vectors["testGroups"] for case in group["tests"]]
        assert len(results) == vectors["numberOfTests"]
        assert results.count("valid") == valid
