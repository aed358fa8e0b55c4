"""Signature types beyond our own two, and keys under which anybody could sign."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit.checkpoint_text import CheckpointText
from audit.log import LogWriter
from audit.merkle import TreeHead
from audit.note import Checkpoint, Note, NoteSignature, VerifierKey
from audit.quorum import Cosigner, Quorum, QuorumError
from audit.signature_types import SignatureType, subtree_message
from audit.store import MemoryStore
from protocol.errors import MalformedError, SignatureError
from protocol.fields import encode_base64
from protocol.keys import SigningKey, VerifyingKey

ORIGIN = "simulated.example/log"
KEY = SigningKey(b"\x01" * 32)
LOG_KEY = VerifierKey.of_log(ORIGIN, KEY.public)
HEAD = TreeHead(size=5, root=bytes(range(32)))
CHECKPOINT = Checkpoint.sign(ORIGIN, HEAD, KEY)
TEXT = CHECKPOINT.note.text
WITNESS = "witness.example/pq"
MLDSA = MLDSA44PrivateKey.from_seed_bytes(b"\x05" * 32)
MLDSA_KEY = VerifierKey(
    name=WITNESS, type=SignatureType.MLDSA_COSIGNATURE, public=MLDSA.public_key().public_bytes_raw()
)


def mldsa_cosignature(text=TEXT, *, time=1_767_225_600, name=WITNESS, key=MLDSA_KEY):
    message = subtree_message(name, time, CheckpointText.parse(text))
    return NoteSignature(name=key.name, key_id=key.key_id, payload=time.to_bytes(8, "big") + MLDSA.sign(message))


def test_an_mldsa_cosignature_signs_these_bytes():
    message = subtree_message("w", 258, CheckpointText.parse(TEXT))
    origin = ORIGIN.encode()
    assert message == (
        b"subtree/v1\n\x00" + b"\x01w" + bytes(6) + b"\x01\x02" + bytes([len(origin)]) + origin + bytes(8)
        + bytes(7) + b"\x05" + HEAD.root
    )  # fmt: skip


def test_an_mldsa_cosignature_states_its_time():
    assert VerifierKey.parse(str(MLDSA_KEY)) == MLDSA_KEY
    assert MLDSA_KEY.verify(mldsa_cosignature(), TEXT) == 1_767_225_600


@pytest.mark.parametrize("position", [0, 7, 8, 9, 1000, 2400, 2427])
def test_a_bit_flipped_in_an_mldsa_cosignature(position):
    line = mldsa_cosignature()
    payload = bytearray(line.payload)
    payload[position] ^= 1
    with pytest.raises(SignatureError):
        MLDSA_KEY.verify(replace(line, payload=bytes(payload)), TEXT)


def test_an_mldsa_cosignature_covers_origin_head_and_its_makers_name():
    line = mldsa_cosignature()
    for other in (
        Checkpoint.sign("simulated.example/other", HEAD, KEY),
        Checkpoint.sign(ORIGIN, replace(HEAD, size=6), KEY),
        Checkpoint.sign(ORIGIN, replace(HEAD, root=bytes(32)), KEY),
    ):
        with pytest.raises(SignatureError, match="does not verify"):
            MLDSA_KEY.verify(line, other.note.text)
    with pytest.raises(SignatureError, match="does not verify"):
        MLDSA_KEY.verify(mldsa_cosignature(name="witness.example/another"), TEXT)
    with pytest.raises(SignatureError, match="expected a checkpoint's text"):
        MLDSA_KEY.verify(line, b"any other text\n")


@pytest.mark.parametrize("time", [0, 2**63, 2**64 - 1])
def test_mldsa_cosignatures_outside_of_time(time):
    with pytest.raises(SignatureError, match="expected a time"):
        MLDSA_KEY.verify(mldsa_cosignature(time=time), TEXT)


@pytest.mark.parametrize("size", [0, 8, 72, 2427, 2429])
def test_mldsa_cosignatures_of_another_size(size):
    line = mldsa_cosignature()
    with pytest.raises(SignatureError, match="expected 2428 bytes"):
        MLDSA_KEY.verify(replace(line, payload=(line.payload + b"\x00")[:size]), TEXT)


def test_an_mldsa_witness_is_a_vote_and_may_stand_beside_others():
    other = SigningKey(b"\x09" * 32)
    ed25519 = VerifierKey.of_cosigner("silo.example/a", other.public)
    quorum = Quorum(cosigners=(Cosigner(owner="a", key=ed25519), Cosigner(owner="w", key=MLDSA_KEY)), required=2)
    cosigned = CHECKPOINT.with_signatures([CHECKPOINT.cosign(ed25519.name, other, time=1)])
    with pytest.raises(QuorumError):
        quorum.verify(cosigned, LOG_KEY)
    votes = quorum.verify(Checkpoint.parse(cosigned.with_signatures([mldsa_cosignature()]).encode()), LOG_KEY)
    assert [vote.owner for vote in votes.owners] == ["a", "w"]


def spki(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


P256 = ec.derive_private_key(7, ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def tree_head_line(key, origin=ORIGIN, head=HEAD, *, scheme=None, extra=b""):
    """A type 0x05 signature as a static CT log makes it, and the key that it verifies under."""
    time = (1_767_225_600_000).to_bytes(8, "big")
    message = b"\x00\x01" + time + head.size.to_bytes(8, "big") + head.root
    if isinstance(key, rsa.RSAPrivateKey):
        signature, own = key.sign(message, padding.PKCS1v15(), SHA256()), b"\x04\x01"
    else:
        signature, own = key.sign(message, ec.ECDSA(SHA256())), b"\x04\x03"
    verifier = VerifierKey(name=origin, type=SignatureType.TREE_HEAD, public=spki(key))
    payload = time + (scheme or own) + len(signature).to_bytes(2, "big") + signature + extra
    return NoteSignature(name=origin, key_id=verifier.key_id, payload=payload), verifier


@pytest.mark.parametrize("key", [P256, RSA], ids=["ecdsa", "rsa"])
def test_a_tree_head_is_signed_without_its_origin_and_the_key_s_name_stands_in(key):
    """The same bytes are a valid signature over another log's text: it is refused for the name."""
    line, verifier = tree_head_line(key)
    assert VerifierKey.parse(str(verifier)) == verifier
    assert verifier.verify(line, TEXT) is None
    swapped = Checkpoint.sign("simulated.example/other", HEAD, KEY).note.text
    with pytest.raises(SignatureError, match="expected the origin"):
        verifier.verify(line, swapped)
    with pytest.raises(SignatureError, match="no extension lines"):
        verifier.verify(line, TEXT + b"more\n")
    with pytest.raises(SignatureError, match="does not verify"):
        verifier.verify(line, Checkpoint.sign(ORIGIN, replace(HEAD, size=6), KEY).note.text)


@pytest.mark.parametrize("changes", [{"scheme": b"\x04\x01"}, {"scheme": b"\x02\x03"}, {"extra": b"\x00"}])
def test_a_tree_head_in_another_wrapping(changes):
    line, verifier = tree_head_line(P256, **changes)
    with pytest.raises(SignatureError, match="digitally-signed"):
        verifier.verify(line, TEXT)


@pytest.mark.parametrize("size", [0, 8, 11, 12])
def test_a_tree_head_cut_short(size):
    line, verifier = tree_head_line(P256)
    with pytest.raises(SignatureError):
        verifier.verify(replace(line, payload=line.payload[:size]), TEXT)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_ecdsa_over_the_text(curve):
    key = ec.derive_private_key(9, curve)
    verifier = VerifierKey(name=ORIGIN, type=SignatureType.ECDSA, public=spki(key))
    line = NoteSignature(name=ORIGIN, key_id=verifier.key_id, payload=key.sign(TEXT, ec.ECDSA(SHA256())))
    assert verifier.verify(line, TEXT) is None
    with pytest.raises(SignatureError):
        verifier.verify(line, TEXT + b"more\n")


@pytest.mark.parametrize(
    ("kind", "public"),
    [
        (SignatureType.ECDSA, b""),
        (SignatureType.ECDSA, bytes(91)),
        (SignatureType.ECDSA, spki(RSA)),
        (SignatureType.ECDSA, spki(P256)[:-1]),
        (SignatureType.ECDSA, spki(ec.derive_private_key(3, ec.SECP256K1()))),
        (SignatureType.TREE_HEAD, spki(ec.derive_private_key(3, ec.SECP384R1()))),
        (SignatureType.TREE_HEAD, spki(rsa.generate_private_key(public_exponent=65537, key_size=1024))),
        (SignatureType.MLDSA_COSIGNATURE, bytes(1311)),
        (SignatureType.MLDSA_COSIGNATURE, bytes(32)),
        (SignatureType.ED25519, bytes(33)),
    ],
)
def test_keys_that_a_type_does_not_allow(kind, public):
    text = f"n+00000000+{encode_base64(bytes([kind]) + public)}"
    for make in (lambda: VerifierKey(name="n", type=kind, public=public), lambda: VerifierKey.parse(text)):
        with pytest.raises(MalformedError):
            make()


def test_no_other_type_signs_for_our_log_or_in_its_quorum():
    """A note that carries true signatures of all other types is still not signed by the log."""
    head_line, head_key = tree_head_line(P256)
    ecdsa_key = VerifierKey(name=ORIGIN, type=SignatureType.ECDSA, public=spki(P256))
    ecdsa_line = NoteSignature(name=ORIGIN, key_id=ecdsa_key.key_id, payload=P256.sign(TEXT, ec.ECDSA(SHA256())))
    note = Note(text=TEXT, signatures=(head_line, ecdsa_line, mldsa_cosignature()))
    assert len(note.verify([head_key, MLDSA_KEY])) == 2
    with pytest.raises(SignatureError, match="none"):
        Checkpoint.parse(note.encode()).verify(LOG_KEY)
    for key in (head_key, ecdsa_key, LOG_KEY):
        with pytest.raises(ValueError, match="0x04 or 0x06"):
            Quorum(cosigners=(Cosigner(owner="a", key=key),), required=1)


# Small order: the identity, for one, has no secret, and R = identity, S = 0 is its signature over everything.

IDENTITY = b"\x01" + bytes(31)
ORDER_EIGHT = (
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)
WEAK = [
    bytes(32),
    IDENTITY,
    *((2**255 - 20 + more).to_bytes(32, "little") for more in range(20)),
    *(bytes.fromhex(text) for text in ORDER_EIGHT),
]


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("raw", WEAK, ids=bytes.hex)
def test_keys_of_small_order_and_other_spellings_are_none(raw, sign):
    key = raw[:31] + bytes([raw[31] | sign])
    text = encode_base64(key)
    for make in (
        lambda: VerifyingKey(key),
        lambda: VerifyingKey.parse(f"ed25519:{text}"),
        lambda: VerifierKey(name="n", type=SignatureType.COSIGNATURE, public=key),
    ):
        with pytest.raises(MalformedError):
            make()


def test_a_log_under_the_identity_would_be_anybodys():
    """What the refusal is for: these 64 bytes verify under that key for every message."""
    Ed25519PublicKey.from_public_bytes(IDENTITY).verify(IDENTITY + bytes(32), TEXT)
    blob = encode_base64(b"\x01" + IDENTITY)
    with pytest.raises(MalformedError, match="point of large order"):
        VerifierKey.parse(f"{ORIGIN}+00000000+{blob}")


def test_an_mldsa_cosignature_is_kept_in_the_log():
    writer = LogWriter.create(MemoryStore(), ORIGIN, KEY)
    checkpoint = writer.append([b"one"])
    writer.add_cosignatures(1, [mldsa_cosignature(checkpoint.note.text).encode()])
    assert len(writer.checkpoint_at(1).note.verify([LOG_KEY, MLDSA_KEY])) == 2
