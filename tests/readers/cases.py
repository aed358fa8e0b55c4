"""Notes, receipts and keys, good and bad, as they are put to our reader and to others: for `docs/other-readers.md`.

All are made from the honest history of `audit_history` and its keys. "unsigned" cases are spelled anew after the
signatures were made; all others are signed as they stand, by the log and by three owners' silos.
"""

import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterable

from audit_history import LOG_KEY, OWNERS, agreement_of, honest, identity
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from audit.agreed import log_key_of, quorum_of
from audit.checkpoint_text import CheckpointText
from audit.log import LogReader
from audit.merkle import EMPTY_ROOT
from audit.note import Checkpoint, NoteSignature, VerifierKey
from audit.proof import Receipt
from audit.signature_types import SignatureType, cosigned_message, subtree_message
from protocol.errors import ProtocolError
from protocol.fields import encode_base64
from protocol.keys import SigningKey

AGREEMENT = agreement_of()
HONEST = honest(AGREEMENT)
STORE = HONEST.store()
READER = LogReader(STORE)
ORIGIN = AGREEMENT.log.origin
LOG = log_key_of(AGREEMENT, LOG_KEY.public)
QUORUM = quorum_of(AGREEMENT)
COSIGNERS = tuple(cosigner.key for cosigner in QUORUM.cosigners)
HEAD = READER.newest().head
TEXT = READER.newest().note.text
NOW = 1_767_225_600
# The first two are one owner's.
SILOS = [f"silo-{number}" for number in range(len(OWNERS))]
THREE = ("silo-0", "silo-2", "silo-3")

Change = Callable[[bytes], bytes]


def log_line(text: bytes, key: SigningKey = LOG_KEY, *, name: str = ORIGIN, payload: bytes | None = None) -> str:
    key_id = VerifierKey.of_log(name, key.public).key_id
    return NoteSignature(name=name, key_id=key_id, payload=payload or key.sign_unlabelled_note(text)).encode()


def silo_line(text: bytes, silo: str, *, time: int = NOW, name: str | None = None, signer: str | None = None) -> str:
    """A cosignature under a silo's name and key id; `signer` is whose key made it."""
    verifier = VerifierKey.of_cosigner(f"{ORIGIN}/{name or silo}", identity(silo).public)
    message = cosigned_message(time, text)
    payload = time.to_bytes(8, "big") + identity(signer or silo).sign_unlabelled_note(message)
    return NoteSignature(name=verifier.name, key_id=verifier.key_id, payload=payload).encode()


def note(
    text: bytes = TEXT, *lines: str, silos: Iterable[str] = THREE, log: bool = True, before: Iterable[str] = ()
) -> bytes:
    """The text, `before`, the log's line, the silos' lines, and more lines."""
    signed = [*before, *([log_line(text)] if log else []), *(silo_line(text, silo) for silo in silos), *lines]
    return text + b"\n" + "".join(signed).encode()


def text_of(size: str = str(HEAD.size), root: str = encode_base64(HEAD.root), *, origin: str = ORIGIN) -> bytes:
    return f"{origin}\n{size}\n{root}\n".encode()


def by_others(count: int) -> list[str]:
    return [f"— other{index} AAAAAAA=\n" for index in range(count)]


def _sloppy(text: str) -> str:
    """Base64 of the same bytes with unused bits set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return f"{text[:-2]}{alphabet[alphabet.index(text[-2]) + 1]}="


def _sloppy_line() -> str:
    """The log's line with its base64 spelled otherwise, if it has unused bits: 68 bytes leave four."""
    start, _, signature = log_line(TEXT)[:-1].rpartition(" ")
    return f"{start} {_sloppy(signature)}\n"


def _mldsa_line() -> str:
    key = MLDSA44PrivateKey.from_seed_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    verifier = VerifierKey(name="pq.example/w", type=SignatureType.MLDSA_COSIGNATURE, public=public)
    message = subtree_message(verifier.name, NOW, CheckpointText.parse(TEXT))
    payload = NOW.to_bytes(8, "big") + key.sign(message)
    return NoteSignature(name=verifier.name, key_id=verifier.key_id, payload=payload).encode()


def notes() -> dict[str, bytes]:
    size, root = str(HEAD.size), encode_base64(HEAD.root)
    good = note()
    nfd = unicodedata.normalize("NFD", "é")
    false = log_line(TEXT, payload=bytes(64))

    def unsigned(old: str, new: str) -> bytes:
        if old.encode() not in good:
            raise ValueError(old)
        return good.replace(old.encode(), new.encode(), 1)

    return {
        "honest": good,
        "honest, as the store holds it": STORE.read("log/checkpoint"),
        "honest, more lines than asked for": note(TEXT, silos=SILOS),
        "an ML-DSA cosignature by a stranger beside": note(TEXT, _mldsa_line()),
        "a stranger's line beside": note(TEXT, *by_others(1)),
        "the log's line after the silos'": note(TEXT, log_line(TEXT), log=False),
        "CRLF, unsigned": good.replace(b"\n", b"\r\n"),
        "CRLF, signed": note(TEXT.replace(b"\n", b"\r\n")),
        "CRLF after the size, unsigned": unsigned(f"\n{size}\n", f"\n{size}\r\n"),
        "size with a leading zero, unsigned": unsigned(f"\n{size}\n", f"\n0{size}\n"),
        "size with a leading zero, signed": note(text_of(f"0{size}")),
        "size with a plus, unsigned": unsigned(f"\n{size}\n", f"\n+{size}\n"),
        "size with a plus, signed": note(text_of(f"+{size}")),
        "size with an underscore, unsigned": unsigned(f"\n{size}\n", f"\n{size[0]}_{size[1:]}\n"),
        "size with an underscore, signed": note(text_of(f"{size[0]}_{size[1:]}")),
        "size with spaces, unsigned": unsigned(f"\n{size}\n", f"\n {size} \n"),
        "size in Arabic-Indic digits, unsigned": unsigned(
            f"\n{size}\n", f"\n{size.translate({48 + digit: 0x660 + digit for digit in range(10)})}\n"
        ),
        "size in full-width digits, signed": note(
            text_of(size.translate({48 + digit: 0xFF10 + digit for digit in range(10)}))
        ),
        "size negative, signed": note(text_of(f"-{size}")),
        "size in hexadecimal, signed": note(text_of(hex(HEAD.size))),
        "size 2^63-1, signed": note(text_of(str(2**63 - 1))),
        "size 2^63, signed": note(text_of(str(2**63))),
        "size of 30 digits, signed": note(text_of("9" * 30)),
        "size of 5000 digits, signed": note(text_of("9" * 5000)),
        "empty tree": note(text_of("0", encode_base64(EMPTY_ROOT))),
        "empty tree with another root": note(text_of("0")),
        "root with unused bits set, unsigned": unsigned(root, _sloppy(root)),
        "root with unused bits set, signed": note(text_of(root=_sloppy(root))),
        "root without padding, signed": note(text_of(root=root.rstrip("="))),
        "root with a space, unsigned": unsigned(root, f"{root[:10]} {root[10:]}"),
        "root in the URL alphabet, signed": note(text_of(root=encode_base64(b"\xff" * 32).replace("/", "_"))),
        "root of 31 bytes, signed": note(text_of(root=encode_base64(bytes(31)))),
        "root of 33 bytes, signed": note(text_of(root=encode_base64(bytes(33)))),
        "signature with unused bits set": note(TEXT, _sloppy_line(), log=False),
        "no final newline": good[:-1],
        "a newline too many": good + b"\n",
        "trailing data": good + b"trailing",
        "a line that is no signature": good + b"trailing\n",
        "a newline before": b"\n" + good,
        "a byte order mark before": b"\xef\xbb\xbf" + good,
        "a NUL after": good + b"\x00",
        "a tab in a stranger's name": note(TEXT, "— a\tb AAAAAAA=\n"),
        "DEL in a stranger's name": note(TEXT, "— a\x7fb AAAAAAA=\n"),
        "a tab in the text, signed": note(TEXT.replace(ORIGIN.encode(), ORIGIN.encode() + b"\t")),
        "bad UTF-8 in a stranger's name": good + b"\xe2\x80\x94 a\xff AAAAAAA=\n",
        "an extension line, signed": note(TEXT + b"more\n"),
        "an empty extension line, signed": note(TEXT + b"\n"),
        "a blank line in the text, signed": note(TEXT.replace(b"\n", b"\n\n", 1)),
        "text without a root, signed": note(f"{ORIGIN}\n{size}\n".encode()),
        "a hyphen for the dash": unsigned("— ", "- "),
        "an en dash for the dash": unsigned("— ", "– "),
        "a horizontal bar for the dash": unsigned("— ", "― "),
        "a no-break space after the dash": unsigned("— ", "—\u00a0"),
        "two spaces after the dash": unsigned("— ", "—  "),
        "a no-break space in a stranger's name": note(TEXT, "— a\u00a0b AAAAAAA=\n"),
        "a plus in a stranger's name": note(TEXT, "— a+b AAAAAAA=\n"),
        "a stranger's name of 256 bytes": note(TEXT, f"— {'n' * 256} AAAAAAA=\n"),
        "a stranger's line of three bytes": note(TEXT, "— other AAAA\n"),
        "a stranger's line of a key id and nothing else": note(TEXT, "— other AAAAAA==\n"),
        "a stranger's line twice": note(TEXT, *by_others(1), *by_others(1)),
        "the log's line twice": note(TEXT, log_line(TEXT)),
        "the log's line and a false one after": note(TEXT, false),
        "a false line of the log's before the true one": note(TEXT, before=[false]),
        "a silo's line twice": note(TEXT, silo_line(TEXT, "silo-0")),
        "a silo's line twice, at two times": note(TEXT, silo_line(TEXT, "silo-0", time=NOW + 1)),
        "a false signature of the log": note(TEXT, false, log=False),
        "a false cosignature beside a quorum": note(TEXT, silo_line(TEXT, "silo-4", signer="silo-1")),
        "no signature": text_of() + b"\n",
        "no signature of the log": note(log=False),
        "signatures by strangers only": note(TEXT, *by_others(3), log=False, silos=()),
        "the log's signature under another name": note(TEXT, log_line(TEXT, name="simulated.example/else"), log=False),
        "the log's signature under another id": note(
            TEXT, NoteSignature(name=ORIGIN, key_id=bytes(4), payload=LOG_KEY.sign_unlabelled_note(TEXT)).encode(),
            log=False,
        ),
        "another key under the log's name": note(TEXT, log_line(TEXT, identity("stranger")), log=False),
        "another log's checkpoint under the same key": note(text_of(origin="simulated.example/else")),
        "an origin of 256 bytes, signed": note(text_of(origin="o" * 256)),
        "an origin in another normal form, signed": note(text_of(origin=ORIGIN.replace("e", nfd, 1))),
        "one owner too few": note(silos=("silo-0", "silo-2")),
        "no cosignature": note(silos=()),
        "two silos of one owner and one of another": note(silos=("silo-0", "silo-1", "silo-2")),
        "one key under two silos' names": note(
            TEXT, silo_line(TEXT, "silo-0", name="silo-1"), silos=("silo-0", "silo-2")
        ),
        "the log for the third silo": note(
            TEXT, Checkpoint.parse(note()).cosign(ORIGIN, LOG_KEY, time=NOW).encode(), silos=("silo-0", "silo-2")
        ),
        "a cosignature at time 0 in the quorum": note(TEXT, silo_line(TEXT, "silo-3", time=0), silos=THREE[:2]),
        "a cosignature at time 2^63 in the quorum": note(TEXT, silo_line(TEXT, "silo-3", time=2**63), silos=THREE[:2]),
        "a cosignature of the year 2100 in the quorum": note(
            TEXT, silo_line(TEXT, "silo-3", time=4_102_444_800), silos=THREE[:2]
        ),
        "100 signatures": note(TEXT, *by_others(96)),
        "101 signatures": note(TEXT, *by_others(97)),
        "600 signatures": note(TEXT, *by_others(596)),
    }  # fmt: skip


def _receipt(index: int = 30) -> bytes:
    return Receipt(index=index, proof=READER.inclusion(index), checkpoint=Checkpoint.parse(note())).encode()


def receipts() -> dict[str, tuple[bytes, bytes]]:
    """Receipt and entry."""
    good, leaf = _receipt(), READER.entry(30)
    first = good.split(b"\n")[2]
    more = encode_base64(bytes(32)).encode()
    return {
        "honest receipt": (good, leaf),
        "honest receipt of the first entry": (_receipt(0), READER.entry(0)),
        "honest receipt of the last entry": (_receipt(HEAD.size - 1), READER.entry(HEAD.size - 1)),
        "receipt for another entry": (good, READER.entry(29)),
        "receipt with another index": (good.replace(b"index 30", b"index 31"), leaf),
        "receipt with an index beyond the size": (good.replace(b"index 30", b"index 300"), leaf),
        "receipt with a leading zero": (good.replace(b"index 30", b"index 030"), leaf),
        "receipt with a plus": (good.replace(b"index 30", b"index +30"), leaf),
        "receipt with a superscript digit": (good.replace(b"index 30", "index 3²".encode()), leaf),
        "receipt with an extra line": (good.replace(b"index 30", b"extra AAAA\nindex 30"), leaf),
        "receipt with CRLF": (good.replace(b"\n", b"\r\n"), leaf),
        "receipt with a hash removed": (good.replace(first + b"\n", b"", 1), leaf),
        "receipt with a hash added": (good.replace(first, first + b"\n" + more, 1), leaf),
        "receipt with 64 hashes": (good.replace(first, (more + b"\n") * 63 + first, 1), leaf),
        "receipt with a hundred thousand hashes": (good.replace(first, (more + b"\n") * 100_000 + first, 1), leaf),
        "receipt with a hash of 31 bytes": (good.replace(first, encode_base64(bytes(31)).encode(), 1), leaf),
        "receipt with unused bits set": (good.replace(first, _sloppy(first.decode()).encode(), 1), leaf),
        "receipt in another version": (good.replace(b"proof@v1", b"proof@v2"), leaf),
        "receipt with no checkpoint": (good.partition(b"\n\n")[0] + b"\n\n", leaf),
        "receipt with one owner too few": (
            good.replace(note(), note(silos=("silo-0", "silo-2"))), leaf
        ),
        "receipt with a false signature": (
            good.replace(note(), note(TEXT, log_line(TEXT, payload=bytes(64)), log=False)), leaf
        ),
    }  # fmt: skip


def vkeys() -> dict[str, str]:
    """Verifier keys, of cosigners where the type is not the point."""
    good = str(COSIGNERS[0])
    name, key_id, blob = good.split("+", 2)

    def of(raw: bytes, kind: int = 4) -> str:
        key = VerifierKey.of_cosigner(name, identity("silo-0").public)
        object.__setattr__(key, "public", raw)
        object.__setattr__(key, "type", SignatureType(kind))
        return str(key)

    return {
        "key of a silo": good,
        "key with another id": f"{name}+00000000+{blob}",
        "key with its id in capitals": f"{name}+{key_id.upper()}+{blob}",
        "key with another's name": f"{name}x+{key_id}+{blob}",
        "key with a space in its name": good.replace("/silo", "/ silo"),
        "key of 31 bytes": of(bytes(range(31))),
        "key of small order: the identity": of(b"\x01" + bytes(31)),
        "key of small order: y = 0": of(bytes(32)),
        "key with y = p + 1": of((2**255 - 18).to_bytes(32, "little")),
        "key followed by a newline": good + "\n",
        "key without padding": good.rstrip("=") + "x",
        "key of type 0xff": f"{name}+{key_id}+" + encode_base64(b"\xff" + bytes(32)),
    }


def ours(kind: str, case: object) -> str | None:
    """Our verdict: None where we accept."""
    try:
        if kind == "note":
            checkpoint = Checkpoint.parse(case)  # type: ignore[arg-type]
            checkpoint.verify(LOG)
            QUORUM.verify(checkpoint, LOG)
        elif kind == "receipt":
            receipt, leaf = case  # type: ignore[misc]
            Receipt.parse(receipt).verify(leaf, log_key=LOG, quorum=QUORUM)
        else:
            VerifierKey.parse(case)  # type: ignore[arg-type]
    except ProtocolError as error:
        return str(error)
    return None


def asked() -> dict[str, object]:
    """What the readers' scripts are told: what their user would trust, and the cases."""

    def text(data: bytes) -> str:
        return b64encode(data).decode()

    return {
        "log_key": str(LOG),
        "origin": ORIGIN,
        "cosigners": [str(key) for key in COSIGNERS],
        "threshold": QUORUM.required,
        "any_note": text(note()),
        "note": {name: text(data) for name, data in notes().items()},
        "receipt": {
            name: {"receipt": text(receipt), "leaf": text(leaf)} for name, (receipt, leaf) in receipts().items()
        },
        "vkey": vkeys(),
    }


def verdicts() -> dict[str, str | None]:
    """Our verdict on each note, receipt and key, by name."""
    cases = [("note", notes()), ("receipt", receipts()), ("vkey", vkeys())]
    return {name: ours(kind, case) for kind, named in cases for name, case in named.items()}
