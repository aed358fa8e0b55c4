"""Notes, checkpoints and cosignatures: every spelling and every key that must be refused."""

import pytest

from audit.checkpoint_text import checkpoint_text
from audit.merkle import TreeHead
from audit.note import Checkpoint, Note, NoteSignature, VerifierKey
from audit.signature_types import SignatureType
from protocol.errors import MalformedError, SignatureError
from protocol.fields import encode_base64
from protocol.keys import SigningKey

KEY = SigningKey(b"\x01" * 32)
WITNESS = SigningKey(b"\x02" * 32)
ORIGIN = "simulated.example/log"
HEAD = TreeHead(size=5, root=bytes(range(32)))
LOG_KEY = VerifierKey.of_log(ORIGIN, KEY.public)
WITNESS_KEY = VerifierKey.of_cosigner("silo.example/a", WITNESS.public)
CHECKPOINT = Checkpoint.sign(ORIGIN, HEAD, KEY)
DATA = CHECKPOINT.encode()
ROOT = encode_base64(HEAD.root)
LINE = CHECKPOINT.note.signatures[0].encode()


def spelled(text, lines=LINE):
    return f"{text}\n{lines}".encode()


def test_a_checkpoint_is_three_lines_a_blank_one_and_a_signature():
    assert spelled(f"{ORIGIN}\n5\n{ROOT}\n") == DATA
    checkpoint = Checkpoint.parse(DATA)
    checkpoint.verify(LOG_KEY)
    assert (checkpoint.origin, checkpoint.head) == (ORIGIN, HEAD)


@pytest.mark.parametrize(
    "data",
    [
        DATA.replace(b"\n", b"\r\n"),
        DATA.replace(b"\n5\n", b"\n5\r\n"),
        DATA.replace(b"\n5\n", b"\n05\n"),
        DATA.replace(b"\n5\n", b"\n+5\n"),
        DATA.replace(b"\n5\n", b"\n-5\n"),
        DATA.replace(b"\n5\n", b"\n 5\n"),
        DATA.replace(b"\n5\n", b"\n5 \n"),
        DATA.replace(b"\n5\n", b"\n5.0\n"),
        DATA.replace(b"\n5\n", b"\n1_0\n"),
        DATA.replace(b"\n5\n", b"\n0x5\n"),
        DATA.replace(b"\n5\n", "\n٥\n".encode()),
        DATA.replace(b"\n5\n", "\n５\n".encode()),
        DATA.replace(b"\n5\n", b"\n9223372036854775808\n"),
        DATA.replace(b"\n5\n", b"\n" + b"9" * 5000 + b"\n"),
        DATA.replace(b"\n5\n", b"\n0\n"),
        DATA.replace(b"\n5\n", b"\n\n5\n"),
        DATA.replace(b"\n5\n", b"\n"),
        DATA[:-1],
        DATA + b"\n",
        DATA + b"trailing",
        DATA + b"\x00",
        b"\n" + DATA,
        b"\xef\xbb\xbf" + DATA.replace(ORIGIN.encode(), b"\xff"),
        b"",
        b"\n",
        b"\n\n",
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", ""),
        spelled(f"{ORIGIN}\n5\n{ROOT}\nextension\n"),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n\n"),
        spelled(f"{ORIGIN}\n5\n{ROOT[:-1]}\n"),
        spelled(f"{ORIGIN}\n5\n{ROOT[:-2]}9=\n"),
        spelled(f"{ORIGIN}\n5\n{ROOT} \n"),
        spelled(f"{ORIGIN}\n5\n{ROOT.replace('/', '_')}=\n"),
        spelled(f"{ORIGIN}\n5\n{encode_base64(bytes(31))}\n"),
        spelled(f"{ORIGIN}\n5\n{encode_base64(bytes(33))}\n"),
        spelled(f"{'o' * 256}\n5\n{ROOT}\n"),
        spelled(f"{ORIGIN}\t\n5\n{ROOT}\n"),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("—", "-")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("—", "–")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("—", "―")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("— ", "—")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("— ", "—  ")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("— ", "—\u00a0")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("/log", "/\u00a0log")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("/log", "/lo+g")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace(ORIGIN, "")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace(ORIGIN, "n" * 256)),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("=\n", "\n")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE.replace("\n", " \n")),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE + LINE),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE + "— silo.example/a AAAA\n"),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE + "— silo.example/a AAAAAA==\n"),
        spelled(f"{ORIGIN}\n5\n{ROOT}\n", LINE + "\n" + LINE),
    ],
)
def test_other_spellings_are_refused(data):
    with pytest.raises(MalformedError):
        Checkpoint.parse(data)


def test_a_second_line_by_the_same_key_is_refused_even_if_it_differs():
    other = NoteSignature(name=ORIGIN, key_id=LOG_KEY.key_id, payload=bytes(64)).encode()
    with pytest.raises(MalformedError, match="duplicate"):
        Checkpoint.parse(DATA + other.encode())


def lines_by_others(count):
    return "".join(f"— other{index} AAAAAAA=\n" for index in range(count))


def test_a_hundred_signatures_are_read_and_one_more_is_not():
    Checkpoint.parse(DATA + lines_by_others(99).encode()).verify(LOG_KEY)
    with pytest.raises(MalformedError, match="at most 100"):
        Checkpoint.parse(DATA + lines_by_others(100).encode())
    lines = [NoteSignature.parse(line + "\n") for line in lines_by_others(100).splitlines()]
    with pytest.raises(MalformedError, match="at most 100"):
        CHECKPOINT.with_signatures(lines)


def test_a_note_of_more_than_a_megabyte_is_refused_unread():
    with pytest.raises(MalformedError, match="at most 1000000"):
        Note.parse(b"a" * 1_000_001)


def test_extension_lines_only_where_the_caller_allows_them():
    text = f"{ORIGIN}\n5\n{ROOT}\nmore\n".encode()
    signature = NoteSignature(name=ORIGIN, key_id=LOG_KEY.key_id, payload=KEY.sign_unlabelled_note(text))
    data = Note(text=text, signatures=(signature,)).encode()
    checkpoint = Checkpoint.parse(data, allow_extensions=True)
    checkpoint.verify(LOG_KEY)
    assert checkpoint.extensions == ("more",)
    with pytest.raises(MalformedError, match="no extension lines"):
        Checkpoint.parse(data)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (VerifierKey.of_log(ORIGIN, WITNESS.public), "none"),
        (VerifierKey.of_log("simulated.example/log2", KEY.public), "expected one of the log"),
        (VerifierKey.of_log("simulated.example/lo\u0301g", KEY.public), "expected one of the log"),
        (VerifierKey.of_cosigner(ORIGIN, KEY.public), "none"),
    ],
)
def test_another_log_or_key_is_refused(key, message):
    with pytest.raises(SignatureError, match=message):
        CHECKPOINT.verify(key)


def test_a_log_whose_signature_is_under_another_name_or_id_is_not_believed():
    payload = CHECKPOINT.note.signatures[0].payload
    for name, key_id in [("simulated.example/else", LOG_KEY.key_id), (ORIGIN, b"\x00" * 4)]:
        lines = (NoteSignature(name=name, key_id=key_id, payload=payload),)
        with pytest.raises(SignatureError, match="none"):
            Checkpoint.parse(Note(text=CHECKPOINT.note.text, signatures=lines).encode()).verify(LOG_KEY)


@pytest.mark.parametrize("payload", [b"\x00", bytes(63), bytes(64), bytes(65), b"\xff" * 64])
def test_a_known_key_with_a_false_signature_spoils_the_note(payload):
    line = NoteSignature(name=ORIGIN, key_id=LOG_KEY.key_id, payload=payload)
    good = CHECKPOINT.cosign(WITNESS_KEY.name, WITNESS, time=1)
    note = Note(text=CHECKPOINT.note.text, signatures=(line, good))
    with pytest.raises(SignatureError):
        note.verify([LOG_KEY, WITNESS_KEY])
    assert len(note.verify([WITNESS_KEY])) == 1


def test_a_signature_with_s_beyond_the_group_order_is_refused():
    order = 2**252 + 27742317777372353535851937790883648493
    signature = CHECKPOINT.note.signatures[0].payload
    scalar = int.from_bytes(signature[32:], "little") + order
    line = NoteSignature(name=ORIGIN, key_id=LOG_KEY.key_id, payload=signature[:32] + scalar.to_bytes(32, "little"))
    with pytest.raises(SignatureError):
        Note(text=CHECKPOINT.note.text, signatures=(line,)).verify([LOG_KEY])


def test_unknown_types_are_carried_along_and_never_counted():
    post_quantum = NoteSignature(name=ORIGIN, key_id=b"\x06\x06\x06\x06", payload=bytes(8 + 2420))
    checkpoint = Checkpoint.parse(CHECKPOINT.with_signatures([post_quantum]).encode())
    assert checkpoint.note.signatures[1] == post_quantum
    assert [verified.key for verified in checkpoint.note.verify([LOG_KEY, WITNESS_KEY])] == [LOG_KEY]


def test_a_cosignature_covers_time_and_text():
    line = CHECKPOINT.cosign(WITNESS_KEY.name, WITNESS, time=1679315147)
    assert WITNESS_KEY.verify(line, CHECKPOINT.note.text) == 1679315147
    message = b"cosignature/v1\ntime 1679315147\n" + checkpoint_text(ORIGIN, HEAD)
    WITNESS.public.verify_unlabelled_note(line.payload[8:], message)
    with pytest.raises(SignatureError):
        WITNESS_KEY.verify(line, checkpoint_text(ORIGIN, TreeHead(size=6, root=HEAD.root)))
    for position in range(8 * len(line.payload)):
        changed = bytearray(line.payload)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(SignatureError):
            WITNESS_KEY.verify(
                NoteSignature(name=line.name, key_id=line.key_id, payload=bytes(changed)), CHECKPOINT.note.text
            )


@pytest.mark.parametrize("time", [0, -1, 2**63, 2**64])
def test_cosignatures_outside_of_time_are_neither_made_nor_believed(time):
    with pytest.raises(ValueError, match="cosignature time"):
        CHECKPOINT.cosign(WITNESS_KEY.name, WITNESS, time=time)
    if 0 <= time < 2**64:
        message = f"cosignature/v1\ntime {time}\n".encode() + CHECKPOINT.note.text
        payload = time.to_bytes(8, "big") + WITNESS.sign_unlabelled_note(message)
        line = NoteSignature(name=WITNESS_KEY.name, key_id=WITNESS_KEY.key_id, payload=payload)
        with pytest.raises(SignatureError, match="expected a time"):
            WITNESS_KEY.verify(line, CHECKPOINT.note.text)


def test_a_log_signature_is_no_cosignature_and_the_reverse():
    as_witness = VerifierKey.of_cosigner(ORIGIN, KEY.public)
    assert as_witness.key_id != LOG_KEY.key_id
    forged = NoteSignature(name=ORIGIN, key_id=as_witness.key_id, payload=CHECKPOINT.note.signatures[0].payload)
    with pytest.raises(SignatureError):
        as_witness.verify(forged, CHECKPOINT.note.text)
    line = CHECKPOINT.cosign(ORIGIN, KEY, time=1)
    with pytest.raises(SignatureError):
        LOG_KEY.verify(NoteSignature(name=ORIGIN, key_id=LOG_KEY.key_id, payload=line.payload), CHECKPOINT.note.text)


def test_one_key_that_signed_twice_counts_once():
    as_witness = VerifierKey.of_cosigner("another.example/name", KEY.public)
    checkpoint = CHECKPOINT.with_signatures([CHECKPOINT.cosign("another.example/name", KEY, time=1)])
    assert len(checkpoint.note.verify([LOG_KEY, as_witness])) == 1


def test_a_key_keeps_its_first_line():
    first, second = (CHECKPOINT.cosign(WITNESS_KEY.name, WITNESS, time=time) for time in (1, 2))
    checkpoint = CHECKPOINT.with_signatures([first, second])
    assert checkpoint.note.signatures == (*CHECKPOINT.note.signatures, first)
    assert checkpoint.with_signatures([second]) == checkpoint


@pytest.mark.parametrize("name", ["", "a b", "a\u2003b", "a\u3000b", "a+b", "a\nb", "a\x85b", "n" * 256, "\ud800"])
def test_key_names_that_could_be_mistaken_are_refused(name):
    with pytest.raises(MalformedError, match="key name"):
        VerifierKey(name=name, type=SignatureType.ED25519, public=bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper(),
        lambda text: text.replace("+", "-"),
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: text.replace(ORIGIN, ORIGIN + "2"),
        lambda text: text.replace(LOG_KEY.key_id.hex(), "00000000"),
        lambda text: text.replace(LOG_KEY.key_id.hex(), "+0000000"),
        lambda text: f"{ORIGIN}+00000000+",
        lambda text: f"{ORIGIN}+00000000+{encode_base64(b'')}",
        lambda text: f"{ORIGIN}+00000000+{encode_base64(bytes([6]) + bytes(1312))}",
        lambda text: f"{ORIGIN}+00000000+{encode_base64(bytes([1]) + bytes(31))}",
    ],
)
def test_verifier_keys_that_are_none_are_refused(change):
    assert VerifierKey.parse(str(LOG_KEY)) == LOG_KEY
    with pytest.raises(MalformedError):
        VerifierKey.parse(change(str(LOG_KEY)))
