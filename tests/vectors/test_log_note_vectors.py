"""C2SP's examples, Go's signed-note cases and the real checkpoints of transparency-dev/formats."""

import json
from base64 import b64decode
from pathlib import Path

import pytest

from audit.checkpoint_text import checkpoint_text
from audit.merkle import TreeHead, leaf_hash
from audit.note import Checkpoint, Note, NoteSignature, VerifierKey
from audit.proof import Receipt
from audit.signature_types import SignatureType
from protocol.errors import MalformedError, SignatureError
from protocol.keys import SigningKey

DATA = Path(__file__).parent / "data"
OPEN_CASES = json.loads((DATA / "golang-mod" / "note_open_cases.json").read_text())
GO_KEYS = json.loads((DATA / "golang-mod" / "vkey_cases.json").read_text())
GO_SIGNED = json.loads((DATA / "golang-mod" / "note_sign_golden.json").read_text())
GO_TREE_NOTES = json.loads((DATA / "golang-mod" / "tree_note_cases.json").read_text())
REAL = json.loads((DATA / "formats" / "real_checkpoints.json").read_text())
FORMATS_KEYS = json.loads((DATA / "formats" / "vkeys.json").read_text())
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"


def key_type(text):
    return b64decode(text.split("+", 2)[2])[0]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["desc"]) for case in OPEN_CASES])
def test_go_note_open(case):
    data = b64decode(case["note_b64"])
    keys = [VerifierKey.parse(text) for text in case["vkeys"]]
    if case["want"] == "accept":
        note = Note.parse(data)
        verified = note.verify(keys)
        assert len(verified) == case["verified"]
        by_known = {signature.signer for signature in note.signatures} & {(key.name, key.key_id) for key in keys}
        unverified = {signature for signature in note.signatures if signature.signer not in by_known}
        assert len(unverified) == case["unverified"]
    else:
        with pytest.raises((MalformedError, SignatureError)):
            Note.parse(data).verify(keys)
    if case.get("err") == "malformed note":
        with pytest.raises(MalformedError):
            Note.parse(data)


def test_go_note_signed_to_the_byte():
    kind, _, name, key_id, blob = GO_SIGNED["published_test_skey"].split("+", 4)
    seed = b64decode(blob)
    assert (kind, seed[0]) == ("PRIVATE", SignatureType.ED25519)
    key = SigningKey(seed[1:])
    verifier = VerifierKey.of_log(name, key.public)
    assert verifier.key_id.hex() == key_id
    text = GO_SIGNED["text"].encode()
    signature = NoteSignature(name=name, key_id=verifier.key_id, payload=key.sign_unlabelled_note(text))
    assert Note(text=text, signatures=(signature,)).encode().decode() == GO_SIGNED["want_note"]


@pytest.mark.parametrize("text", GO_KEYS["good"])
def test_go_verifier_keys(text):
    assert str(VerifierKey.parse(text)) == text


@pytest.mark.parametrize("text", GO_KEYS["bad"])
def test_go_verifier_keys_refused(text):
    with pytest.raises(MalformedError):
        VerifierKey.parse(text)


def test_every_part_of_a_verifier_key_and_every_changed_one_is_refused():
    good = GO_KEYS["good"][0]
    for start in range(len(good)):
        for end in range(start, len(good) + 1):
            if good[start:end] != good:
                with pytest.raises(MalformedError):
                    VerifierKey.parse(good[start:end])
    for position, character in enumerate(good):
        with pytest.raises(MalformedError):
            VerifierKey.parse(good[:position] + chr(ord(character) + 1) + good[position + 1 :])


@pytest.mark.parametrize("text", FORMATS_KEYS["good"])
def test_verifier_keys_of_real_logs(text):
    assert str(VerifierKey.parse(text)) == text


@pytest.mark.parametrize("text", FORMATS_KEYS["bad"] + [item["vkey"] for item in FORMATS_KEYS["disputed"]])
def test_verifier_keys_of_real_logs_refused(text):
    with pytest.raises(MalformedError):
        VerifierKey.parse(text)


# The logs whose origin is not their key's name.
ORIGINS = {
    "rekor.sigstore.dev": "Rekor",
    "bananas.sigstore.dev": "Rekor",
    "pixel6_transparency_log": "DEFAULT",
    "sum.golang.org": "go.sum database tree",
}


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in REAL])
def test_real_checkpoints(case):
    """Types 0x01, 0x02 (Rekor) and 0x05 (static CT, whose signature does not cover the origin)."""
    checkpoint = Checkpoint.parse(case["note"].encode())
    assert checkpoint.encode() == case["note"].encode()
    assert checkpoint_text(checkpoint.origin, checkpoint.head) == checkpoint.note.text
    try:
        key = VerifierKey.parse(case["vkey"])
    except MalformedError as error:
        # Type 0x02 alone has a key id without the name in it.
        raise AssertionError(case["name"]) from error
    origin = ORIGINS.get(key.name, key.name)
    if case["want"] == "accept":
        checkpoint.verify(key, origin=origin)
        if origin != key.name:
            with pytest.raises(SignatureError, match="expected one of the log"):
                checkpoint.verify(key)
    else:
        with pytest.raises(SignatureError):
            checkpoint.verify(key, origin=origin)
        with pytest.raises(SignatureError):
            checkpoint.note.verify([key])


def test_cosignature_times():
    dated, plain = FORMATS_KEYS["cosig_timestamp"]
    payload = b64decode(dated["sig_b64"])[4:]
    assert (len(payload), int.from_bytes(payload[:8], "big")) == (72, dated["unix"])
    blob = b64decode(plain["sig_b64"])
    key = VerifierKey.parse(next(text for text in FORMATS_KEYS["good"] if key_type(text) == SignatureType.COSIGNATURE))
    signature = NoteSignature(name=key.name, key_id=key.key_id, payload=blob[4:])
    with pytest.raises(SignatureError, match="expected 72 bytes, found 64"):
        key.verify(signature, b"text\n")


def test_go_tree_notes():
    key = SigningKey(bytes(32))
    origin = "go.sum database tree"
    form = GO_TREE_NOTES["format"]
    head = TreeHead(size=form["n"], root=leaf_hash(form["leaf"].encode()))
    # Go's case is SHA-256 without the leaf's prefix, so its root comes from its own text.
    wanted = Checkpoint.parse(_signed(form["want"]))
    assert checkpoint_text(origin, wanted.head).decode() == form["want"]
    assert wanted.size == head.size
    for text in GO_TREE_NOTES["bad"]:
        with pytest.raises((MalformedError, SignatureError)):
            Checkpoint.parse(_signed(text)).verify(VerifierKey.of_log("n", key.public), origin=origin)


def _signed(text):
    return f"{text}\n— n AAAAAAA=\n".encode()


def test_specification_example_verifies():
    data = (DATA / "c2sp" / "signed-note-example.txt").read_bytes()
    note = Note.parse(data)
    assert note.encode() == data
    assert [item.key.name for item in note.verify([VerifierKey.parse(SPEC_KEY)])] == ["example.com/foo"]


def test_text_ends_at_the_last_blank_line():
    data = (DATA / "c2sp" / "signed-note-blank-line-in-text.txt").read_bytes()
    note = Note.parse(data)
    assert note.text.decode().count("\n") == 4
    assert note.text.decode().endswith("\n\ned è subito sera.\n")
    assert note.encode() == data


def test_specification_cosigned_checkpoint_parses():
    data = (DATA / "c2sp" / "cosigned-checkpoint-example.txt").read_bytes()
    checkpoint = Checkpoint.parse(data)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.encode() == data
    cosignature = checkpoint.note.signatures[1]
    assert int.from_bytes(cosignature.payload[:8], "big") == 1679315147


def test_checkpoint_inside_a_witness_request_parses():
    request = (DATA / "c2sp" / "witness-add-checkpoint-request.txt").read_bytes()
    checkpoint = Checkpoint.parse(request.split(b"\n\n", 1)[1])
    assert checkpoint.size == 20852163
    assert len(checkpoint.note.signatures) == 2


def test_elided_proof_example_is_refused():
    with pytest.raises(MalformedError):
        Receipt.parse((DATA / "c2sp" / "tlog-proof-example-elided.txt").read_bytes())
