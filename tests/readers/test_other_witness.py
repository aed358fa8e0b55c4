"""A witness that we did not write (aics-witness, over HTTP on the loopback) cosigns our log, and no fork of it.

The requests are spelled by hand, after C2SP tlog-witness: the server is the judge of them, not our own encoder.
"""

import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from audit_history import LOG_KEY
from readers.other_readers import BIN, run

from appliance.gateway.witness_http import WitnessUrl, post
from audit.log import LogWriter
from audit.note import Checkpoint, NoteSignature, VerifierKey
from audit.quorum import Cosigner, Quorum
from audit.signature_types import SignatureType
from audit.store import MemoryStore
from audit.witnessing.answer import Conflict, WitnessRefusedError, read_answer
from audit.witnessing.request import AddCheckpoint
from protocol.fields import encode_base64
from protocol.keys import SigningKey

pytestmark = pytest.mark.skipif(
    Path() == BIN, reason="make check-readers installs the readers and sets STRONGROOM_READERS"
)

ORIGIN = "simulated.strongroom.example/witnessed"
LOG = VerifierKey.of_log(ORIGIN, LOG_KEY.public)
_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")


@dataclass(frozen=True)
class Witness:
    """A running server: where it is, and the key that it said it has."""

    url: str
    key: VerifierKey

    def add_checkpoint(self, old: int, proof: tuple[bytes, ...], checkpoint: bytes) -> tuple[int, str, str]:
        """Status, content type and body."""
        lines = [f"old {old}\n", *(f"{encode_base64(digest)}\n" for digest in proof), "\n"]
        body = "".join(lines).encode() + checkpoint
        request = urllib.request.Request(f"{self.url}/add-checkpoint", data=body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()

    def cosigned(self) -> Checkpoint:
        """What its monitoring endpoint serves as the newest that it cosigned."""
        name = sha256(ORIGIN.encode()).hexdigest()
        with urllib.request.urlopen(f"{self.url}/{name}/checkpoint", timeout=20) as answer:
            return Checkpoint.parse(answer.read())


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    config = tmp_path / "witness.json"
    made = run(
        "aics-witness", "init", "--config", config, "--name", "witness.example/w1", "--listen", "127.0.0.1:0",
        "--db", "witness.db", "--key-file", "witness.key",
    )  # fmt: skip
    added = run("aics-witness", "add-log", "--config", config, "--origin", ORIGIN, "--vkey", str(LOG))
    assert made.returncode == added.returncode == 0, made.stderr + added.stderr
    process = subprocess.Popen([BIN / "aics-witness", "serve", "--config", config], stderr=subprocess.PIPE, text=True)
    try:
        if process.stderr is None:
            raise RuntimeError("no pipe")
        url = next(found[1] for line in process.stderr if (found := _LISTENING.search(line)))
        yield Witness(url, VerifierKey.parse(made.stdout.split()[-1]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


@pytest.fixture
def writer() -> LogWriter:
    writer = LogWriter.create(MemoryStore(), ORIGIN, LOG_KEY)
    writer.append([b"zero", b"one", b"two"])
    return writer


def test_it_cosigns_our_log_as_it_grows_and_the_log_keeps_the_cosignatures(witness: Witness, writer: LogWriter) -> None:
    assert witness.key.type is SignatureType.COSIGNATURE
    quorum = Quorum(cosigners=(Cosigner(owner="the witness", key=witness.key),), required=1)
    old = 0
    for entries in ([b"three"], [b"four"] * 5, [b"five"] * 300):
        size = writer.size
        status, _, lines = witness.add_checkpoint(old, writer.consistency(old) if old else (), writer.checkpoint)
        assert status == 200, lines
        signature = NoteSignature.parse(lines)
        assert witness.key.verify(signature, writer.checkpoint_at(size).note.text) is not None
        kept = writer.add_cosignatures(size, [lines])
        assert [vote.owner for vote in quorum.verify(kept, LOG).owners] == ["the witness"]
        old = size
        writer.append(entries)
    # A receipt under the witnessed head convinces whoever trusts the witness.
    receipt = writer.receipt(5, old)
    receipt.verify(writer.entry(5), log_key=LOG, quorum=quorum)
    served = witness.cosigned()
    served.verify(LOG)
    assert served.head == writer.checkpoint_at(old).head
    assert quorum.verify(served, LOG)


def test_it_understands_our_own_courier(witness: Witness, writer: LogWriter) -> None:
    url = WitnessUrl.parse(witness.url)

    def carried(old: int) -> NoteSignature | Conflict:
        proof = writer.consistency(old) if 0 < old < writer.size else ()
        checkpoint = Checkpoint.parse(writer.checkpoint)
        body = AddCheckpoint(old_size=old, proof=proof, checkpoint=checkpoint).encode()
        return read_answer(post(url, body, seconds=20), witness.key)

    for old in (0, 3, 4):
        line = carried(old)
        assert isinstance(line, NoteSignature)
        assert witness.key.verify(line, Checkpoint.parse(writer.checkpoint).note.text) is not None
        writer.append([b"more"])
    assert carried(0) == Conflict(size=5)
    with pytest.raises(WitnessRefusedError, match="found status 422"):
        read_answer(post(url, _unproven(writer), seconds=20), witness.key)


def _unproven(writer: LogWriter) -> bytes:
    checkpoint = Checkpoint.parse(writer.checkpoint)
    return AddCheckpoint(old_size=5, proof=(bytes(32),), checkpoint=checkpoint).encode()


def test_from_an_old_size_that_it_does_not_have_it_names_its_own(witness: Witness, writer: LogWriter) -> None:
    assert witness.add_checkpoint(0, (), writer.checkpoint)[0] == 200
    writer.append([b"three", b"four"])
    status, kind, body = witness.add_checkpoint(0, (), writer.checkpoint)
    assert (status, kind, body) == (409, "text/x.tlog.size", "3\n")
    assert witness.add_checkpoint(3, writer.consistency(3), writer.checkpoint)[0] == 200


def forked(*entries: bytes, key: SigningKey = LOG_KEY) -> LogWriter:
    writer = LogWriter.create(MemoryStore(), ORIGIN, key)
    writer.append(list(entries))
    return writer


def test_it_cosigns_no_fork_and_no_rollback(witness: Witness, writer: LogWriter) -> None:
    """A log under the log's own key that says something else: of the same size, larger, and smaller."""
    writer.append([b"three", b"four"])
    assert witness.add_checkpoint(0, (), writer.checkpoint)[0] == 200
    same = forked(b"zero", b"one", b"two", b"three", b"FOUR")
    assert witness.add_checkpoint(5, (), same.checkpoint)[0] == 422
    larger = forked(b"zero", b"one", b"two", b"three", b"FOUR", b"five", b"six")
    assert witness.add_checkpoint(5, larger.consistency(5), larger.checkpoint)[0] == 422
    smaller = writer.checkpoint_at(3).encode()
    assert witness.add_checkpoint(5, (), smaller)[0] == 400
    assert witness.add_checkpoint(0, (), smaller)[::2] == (409, "5\n")
    assert witness.cosigned().head == writer.checkpoint_at(5).head


def test_it_cosigns_nothing_on_a_false_proof_a_strangers_word_or_another_origin(
    witness: Witness, writer: LogWriter
) -> None:
    assert witness.add_checkpoint(0, (), writer.checkpoint)[0] == 200
    writer.append([b"three", b"four"])
    proof = writer.consistency(3)
    assert witness.add_checkpoint(3, (*proof, bytes(32)), writer.checkpoint)[0] == 422
    assert witness.add_checkpoint(3, proof[:-1], writer.checkpoint)[0] == 422
    stranger = forked(b"zero", b"one", b"two", b"three", key=SigningKey(b"\x07" * 32))
    assert witness.add_checkpoint(3, (), stranger.checkpoint)[0] == 403
    other = LogWriter.create(MemoryStore(), "simulated.strongroom.example/other", LOG_KEY)
    other.append([b"zero"])
    assert witness.add_checkpoint(0, (), other.checkpoint)[0] == 404
    assert witness.add_checkpoint(3, proof, writer.checkpoint.replace(b"\n5\n", b"\n05\n"))[0] == 400
    assert witness.cosigned().size == 3
    assert witness.add_checkpoint(3, proof, writer.checkpoint)[0] == 200
