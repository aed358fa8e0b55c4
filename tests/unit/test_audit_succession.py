"""The seam between two logs: every statement in it is checked, from the side of either log."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest
from memory_federation import MemoryFederation, signing_key
from successions import approvals, ended, successor_of

from audit.entries import LogSuperseded, Predecessor, parse_entry
from audit.log import LogReader
from audit.log_files import LogFiles
from audit.note import Checkpoint
from audit.predecessor import Ended, read_end
from audit.succession import SuccessionProof, check_begun, check_ended
from protocol.agreement import Agreement
from protocol.errors import MalformedError
from protocol.succession import Approvals, SuccessionError


@cache
def seam() -> tuple[Agreement, Agreement, Ended, LogSuperseded]:
    """An old federation that has ended for a new one: both agreements, and what either log says of the other."""
    federation = MemoryFederation(replace={"rounds = 40": "rounds = 1"})
    federation.enrol_all()
    federation.run()
    new = successor_of(federation)
    ended(federation, new)
    (end,) = (
        entry for entry in map(parse_entry, LogReader(federation.store).entries()) if isinstance(entry, LogSuperseded)
    )
    return federation.agreement, new, read_end(LogFiles(federation.store), new), end


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


def begun(
    change: Callable[[Predecessor], Predecessor] = lambda entry: entry,
    proof: Callable[[SuccessionProof], SuccessionProof] = lambda proof: proof,
    signed: tuple[bytes, ...] | None = None,
) -> None:
    """Check leaf 0's words with a change in them, in the proof or in the approvals."""
    _, new, end, superseded = seam()
    objects = {digest(data): data for data in end.objects}
    changed = proof(SuccessionProof.parse(objects[end.entry.proof])).encode()
    objects[digest(changed)] = changed
    if signed is not None:
        objects[superseded.approvals] = Approvals(approvals=signed).encode()
    check_begun(change(replace(end.entry, proof=digest(changed))), new, lambda digest, _what: objects.get(digest))


def finished(
    change: Callable[[LogSuperseded], LogSuperseded] = lambda entry: entry,
    successor: Agreement | None = None,
    signed: tuple[bytes, ...] | None = None,
) -> None:
    """Check the old log's last word with a change in it, in the successor or in the approvals."""
    old, new, _, superseded = seam()
    named = successor or new
    kept = signed if signed is not None else approvals(named, [silo.name for silo in old.silos])
    objects = {superseded.successor: named.source, superseded.approvals: Approvals(approvals=kept).encode()}
    check_ended(change(superseded), old, lambda digest, _what: objects.get(digest))


def without_cosignatures(proof: SuccessionProof) -> SuccessionProof:
    checkpoint = Checkpoint.parse(proof.note.encode())
    log_only = replace(checkpoint.note, signatures=checkpoint.note.signatures[:1])
    return replace(proof, note=log_only.encode().decode())


def test_an_honest_seam_holds_from_both_sides() -> None:
    begun()
    finished()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda entry: replace(entry, origin="elsewhere"), "name: expected", id="origin"),
        pytest.param(lambda entry: replace(entry, size=entry.size - 1), "size: expected", id="size"),
        pytest.param(lambda entry: replace(entry, root=bytes(32)), "root: expected", id="root"),
        pytest.param(
            lambda entry: replace(entry, log_key=signing_key("other").public.raw), "expected a signature", id="log-key"
        ),
        pytest.param(lambda entry: replace(entry, rounds=2), "an end after 2 rounds", id="rounds"),
        pytest.param(lambda entry: replace(entry, model=bytes(32)), "expected an end after", id="model"),
    ],
)
def test_what_leaf_0_says_of_its_predecessor(change: Callable[[Predecessor], Predecessor], words: str) -> None:
    with pytest.raises(SuccessionError, match=words):
        begun(change)


def test_an_end_that_no_quorum_has_cosigned() -> None:
    with pytest.raises(SuccessionError, match="expected cosignatures of 3 owners, found nobody"):
        begun(proof=without_cosignatures)


def test_an_end_that_is_not_in_the_cosigned_tree() -> None:
    def other_index(proof: SuccessionProof) -> SuccessionProof:
        return replace(proof, superseded=replace(proof.superseded, index=proof.superseded.index - 1))

    with pytest.raises(SuccessionError, match="the predecessor's log: "):
        begun(proof=other_index)


def test_an_entry_that_is_no_end() -> None:
    _, _, end, _ = seam()
    entry = Predecessor.parse(end.entry.encode())
    assert entry == end.entry
    with pytest.raises((SuccessionError, MalformedError)):
        begun(proof=lambda proof: replace(proof, superseded=replace(proof.superseded, entry=b"{}")))


@pytest.mark.parametrize("side", [begun, finished], ids=["begun", "finished"])
class TestApprovals:
    def test_one_is_missing(self, side: Callable[..., None]) -> None:
        with pytest.raises(SuccessionError, match="found none of silo-3"):
            side(signed=approvals(seam()[1], ["silo-0", "silo-1", "silo-2"]))

    def test_one_is_a_strangers(self, side: Callable[..., None]) -> None:
        signed = list(approvals(seam()[1], ["silo-0", "silo-1", "silo-2", "silo-3"]))
        signed[2] = signed[2][:8] + bytes(8) + signed[2][16:]
        with pytest.raises(SuccessionError, match="approval of silo-2: the signature is not by"):
            side(signed=tuple(signed))

    def test_one_is_rubbish(self, side: Callable[..., None]) -> None:
        with pytest.raises(SuccessionError, match="approvals: "):
            side(signed=(b"rubbish" * 20,))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda entry: replace(entry, rounds=7), "rounds: expected 7", id="rounds"),
        pytest.param(lambda entry: replace(entry, model=bytes(32)), "initial: expected the model", id="model"),
    ],
)
def test_what_the_old_logs_last_word_says(change: Callable[[LogSuperseded], LogSuperseded], words: str) -> None:
    with pytest.raises(SuccessionError, match=words):
        finished(change)


def test_a_successor_that_names_another_predecessor() -> None:
    old, new, _, _ = seam()
    text = new.source.decode().replace(old.digest.hex(), bytes(32).hex())
    with pytest.raises(SuccessionError, match=r"expected \[predecessor\] agreement"):
        finished(successor=Agreement.parse(text.encode(), "federation.toml"))
