"""One silo of four sends what it should not, to a real appliance: what it is told, what is logged, and what it changes.

Rounds go on all the while. At the end every published model is the honest silos' alone, and the audit passes. What
fails before the silo's own signature is verified is answered and not logged, and costs it nothing: one attempt sees it
all (docs/decisions/0005-refusals-logged.md). What it has signed and sealed itself is logged, and ends its part.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import torch
from blob_surgery import Anatomy
from hostile_scene import Net
from least_squares_oracle import TASK
from memory_federation import signing_key
from process_federation import PATIENCE_SECONDS, federation, wait_until
from silo_by_hand import CANARY, UNSIGNED, seal, vectors
from update_attacks import HONEST, HOSTILE, LOGGED, UNLOGGED, Hostile, facts, flipped

from audit.agreed import cosigner_of
from audit.entries import ControlReset, RoundAbandoned, RoundPublished, UpdateAccepted, UpdateRefused
from audit.merkle import TreeHead
from audit.note import Checkpoint
from protocol.layout import Section
from protocol.session import Cosigned, CosignRequest, Join, Pending, UploadAccepted, WantInitial
from protocol.wire.methods import BULK_MESSAGE_BYTES, DOWNLOAD, FEDERATION_SERVICE, DownloadRequest

torch.set_num_threads(1)
UPLOAD_STATUS = f"/{FEDERATION_SERVICE}/UploadStatus"
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")


@pytest.fixture(scope="module")
def scene() -> Iterator[Hostile]:
    # Nothing here ends by a deadline.
    replace = {"round_deadline_seconds = 60": "round_deadline_seconds = 600", "rounds = 40": "rounds = 100"}
    with federation(network=Net(), task=TASK, replace=replace, owners=OWNERS) as made:
        made.start_appliance()
        yield Hostile(made)


@pytest.mark.parametrize("attack", UNLOGGED)
def test_is_refused_and_not_held_against_anybody(scene: Hostile, attack: str) -> None:
    make, sentence = UNLOGGED[attack]
    blob = make(scene)
    error, logged = scene.refused(lambda: scene.hostile.upload(blob))
    assert str(error).startswith(sentence.format(**facts(scene, blob)))
    assert logged == []


SIZES = ["-1", "+2105000", "2.1e6", "0x201f00", "9" * 19, "", "2105000 ", "2105000,2105000", "inf"]
GARBAGE = [
    *((("upload-id", "0a" * 16), ("offset", "0"), ("size", size)) for size in SIZES),
    (("upload-id", "0a" * 16), ("offset", "-1"), ("size", "2105000")),
    (("upload-id", "../../models"), ("offset", "0"), ("size", "2105000")),
    (("upload-id", "0A" * 16), ("offset", "0"), ("size", "2105000")),
    (("upload-id", "0a" * 17), ("offset", "0"), ("size", "2105000")),
    (("offset", "0"), ("size", "2105000")),
    (),
]


@pytest.mark.parametrize("metadata", GARBAGE, ids=lambda metadata: " ".join(map(":".join, metadata)) or "none")
def test_upload_metadata_that_is_none_is_refused(scene: Hostile, metadata: tuple[tuple[str, str], ...]) -> None:
    with scene.hostile.wire() as wire:
        refusal = wire.upload([b"x"], metadata).refusal
    assert (refusal.code, refusal.found) == ("malformed", "other metadata")
    assert refusal.expected == "metadata upload-id (32 hexadecimal digits), offset and size"


def test_a_size_that_no_update_has_is_refused_before_a_byte_is_taken(scene: Hostile) -> None:
    scene.collecting()
    with scene.hostile.wire() as wire:
        for size in (0, 1, 2_000_000, 2_200_000, 2**40, 10**18 - 1):
            refusal = wire.announced([], size=size).refusal
            assert (refusal.code, refusal.found) == ("wrong-size", f"one of {size}")
            assert refusal.remedy == "seal an update of this federation's layout"
    assert list((scene.made.store / "spool" / HOSTILE).glob("*.part")) == []


def test_more_bytes_than_announced_and_fewer_are_refused(scene: Hostile) -> None:
    blob = scene.sealed().blob
    pieces = [blob[start : start + BULK_MESSAGE_BYTES] for start in range(0, len(blob), BULK_MESSAGE_BYTES)]
    with scene.hostile.wire() as wire:
        more = wire.announced([*pieces, b"1"], size=len(blob)).refusal
        fewer = wire.announced(pieces[:-1], size=len(blob)).refusal
        elsewhere = wire.announced(pieces[1:], size=len(blob), offset=BULK_MESSAGE_BYTES).refusal
        with pytest.raises(grpc.RpcError) as caught:
            wire.announced([blob], size=len(blob))
    assert (more.code, more.expected, more.found) == (
        "wrong-size",
        f"the {len(blob)} bytes that were announced",
        "more",
    )
    assert (fewer.code, fewer.found) == ("wrong-size", str(2 * BULK_MESSAGE_BYTES))
    assert (elsewhere.code, elsewhere.expected) == ("wrong-size", "an upload that goes on at byte 0")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("name", ["../spool/silo-0/{id}", "../log/checkpoint", "/etc/passwd", ".", "a/b", "x" * 200])
def test_nothing_but_bodies_can_be_downloaded(scene: Hostile, name: str) -> None:
    """Not even one's neighbour's sealed update."""
    scene.collecting()
    [neighbours, *_] = (scene.made.store / "spool" / "silo-0").glob("*.blob")
    wanted = name.format(id=neighbours.stem)
    with scene.hostile.wire() as wire, pytest.raises(grpc.RpcError) as caught:
        list(wire.channel.unary_stream(DOWNLOAD)(DownloadRequest(name=wanted, offset=0).encode()))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == (
        f"wrong-round: expected a body of the round that is announced now, found {wanted[:80]!r}, which is not here; "
        "wait for the next announcement"
    )


def test_after_all_that_its_good_update_counts_and_no_other_takes_its_place(scene: Hostile) -> None:
    scene.collecting()
    first, second = scene.hostile.good(), scene.hostile.good()
    for blob in (flipped("text", 1)(scene), first.blob[:-1], os.urandom(len(first.blob))):
        scene.refused(lambda blob=blob: scene.hostile.upload(blob))  # type: ignore[misc]
    update = scene.hostile.hold(first)
    answer = scene.hostile.upload(first.blob, first.header.upload_id)
    scene.hostile.machine.accepted(update, answer)
    error, logged = scene.refused(lambda: scene.hostile.upload(second.blob))
    assert str(error).startswith(
        "already-complete: expected one complete upload for each attempt and silo, found silo-3"
    )
    assert logged == []
    again = scene.hostile.upload(first.blob, first.header.upload_id)
    assert UploadAccepted.parse(again).entry == UploadAccepted.parse(answer).entry
    ending = scene.finish()
    assert scene.cohort(ending) == [*HONEST, HOSTILE]
    assert isinstance(ending, RoundPublished)
    assert {member.update for member in ending.cohort if member.silo == HOSTILE} == {first.digest}


@pytest.mark.parametrize("attack", LOGGED)
def test_is_logged_against_the_silo_and_the_round_goes_on_without_it(scene: Hostile, attack: str) -> None:
    make, sentence = LOGGED[attack]
    sealed, opened = make(scene), scene.collecting()
    error, logged = scene.refused(lambda: scene.hostile.upload(sealed.blob))
    assert str(error).startswith(sentence)
    [entry] = logged
    assert isinstance(entry, UpdateRefused)
    assert (entry.silo, entry.code, entry.upload_id) == (HOSTILE, str(error.refusal.code), sealed.header.upload_id)
    assert (entry.round, entry.attempt) == (opened.round, opened.attempt)
    assert scene.cohort(scene.finish()) == HONEST


def test_after_that_its_part_in_the_attempt_is_over(scene: Hostile) -> None:
    """Neither the same again nor a good one changes that."""
    scene.collecting()
    bad, good = LOGGED["no steps"][0](scene), scene.hostile.good()
    scene.refused(lambda: scene.hostile.upload(bad.blob))
    for again in (bad, good):
        error, logged = scene.refused(lambda blob=again.blob: scene.hostile.upload(blob))  # type: ignore[misc]
        assert str(error).startswith("already-complete: ")
        assert logged == []
    assert scene.cohort(scene.finish()) == HONEST


# In a session


def test_calls_left_half_made_lock_nobody_out(scene: Hostile) -> None:
    scene.collecting()
    scene.hostile.submit()
    wires, over = [scene.hostile.wire() for _ in range(5)], threading.Event()

    def unsaid() -> Iterator[bytes]:
        over.wait()
        yield from ()

    calls = [wire.channel.stream_unary(UPLOAD_STATUS).future(unsaid()) for wire in wires for _ in range(12)]
    wait_until(lambda: sum(call.done() for call in calls) >= 52, "all but eight of them to be refused")
    assert scene.cohort(scene.finish()) == [*HONEST, HOSTILE]
    over.set()
    for wire in wires:
        wire.close()


SAID = {
    "nothing": (b"", "malformed: expected a message of this protocol's version, found "),
    "no message": (b'{"kind":"join"}', "malformed: expected a message of this protocol's version, found "),
    "the enclave's own": (
        WantInitial(digest=bytes(32)).encode(),
        "malformed: expected a message of this protocol's version, found session: expected a silo's message, found ",
    ),
    "a log of its own making": (
        Join(head=10**9, pending=None).encode(),
        "log-rolled-back: expected silos and witnesses that know at most the log's ",
    ),
    "far too much": (b" " * 5000, "malformed: expected a message of this protocol's version, found "),
    "more than a message holds": (b" " * 2_000_000, "127.0.0.1:"),
}


@pytest.mark.parametrize("said", SAID)
def test_a_session_in_which_a_silo_says(scene: Hostile, said: str) -> None:
    message, sentence = SAID[said]
    assert str(scene.out_of_session(message)).startswith(sentence)
    scene.hostile.join()


def test_an_update_in_doubt_that_never_was_costs_nobody_anything(scene: Hostile) -> None:
    silo = scene.hostile
    silo.channel.connect(silo.enrol())
    head = Join.parse(silo.machine.join()).head
    never = Pending(round=10**6, attempt=7, upload_id=bytes(16))
    silo.channel.send(Join(head=head, pending=never).encode())
    scene.collecting()
    scene.hostile.submit()
    assert scene.cohort(scene.finish()) == [*HONEST, HOSTILE]


def cosigned(scene: Hostile, asked: Checkpoint, *, key: str = HOSTILE, time: int = 1, root: bytes = b"") -> bytes:
    """The hostile silo's answer to a request for its cosignature."""
    agreement = scene.made.agreement
    name = cosigner_of(agreement, agreement.silo(HOSTILE)).name
    head = TreeHead(size=asked.size, root=root or asked.root)
    checkpoint = Checkpoint.sign(asked.origin, head, signing_key(key))
    line = checkpoint.cosign(name, signing_key(key), time=time).encode()
    return Cosigned(size=asked.size, line=line).encode()


FALSE = {"by its neighbour's key": {"key": "silo-0"}, "of another tree": {"root": bytes(32)}}


@pytest.mark.parametrize("false", FALSE)
def test_a_false_cosignature_ends_its_session_and_the_others_make_the_quorum(scene: Hostile, false: str) -> None:
    asked = Checkpoint.parse(CosignRequest.parse(asked_alone(scene)).checkpoint.encode())
    error = scene.ended_by(cosigned(scene, asked, **FALSE[false]))  # type: ignore[arg-type]
    assert str(error).startswith(
        f"identity-signature: expected a cosignature of the checkpoint of {asked.size} entries by silo-3's identity key"
    )
    scene.hostile.join()
    scene.collecting()


def test_a_cosignature_from_the_end_of_time_counts_and_does_not_move_the_clock(scene: Hostile) -> None:
    request, everybody = asked_alone(scene), scene.present
    asked = Checkpoint.parse(CosignRequest.parse(request).checkpoint.encode())
    scene.hostile.machine.handle(request)
    scene.hostile.channel.send(cosigned(scene, asked, time=2**63 - 1))
    # Without it these are no quorum.
    scene.present = [scene.hostile, *scene.honest[:2]]
    scene.collecting()
    scene.present = everybody
    scene.collecting()
    scene.hostile.submit()
    assert abs(scene.finish().time - time.time()) < 3600


def asked_alone(scene: Hostile) -> bytes:
    """A round has ended, and the hostile silo is the first to hear that its cosignature is wanted."""
    scene.collecting()
    scene.hostile.submit()
    for silo in scene.honest:
        silo.submit()
    message = scene.hostile.channel.receive(PATIENCE_SECONDS)
    assert message is not None
    return message


# Between admission and merge


def cut_short(blob: bytes) -> bytes:
    return blob[: len(blob) // 2]


def one_bit(blob: bytes) -> bytes:
    place = len(blob) // 2
    return blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]


@pytest.mark.parametrize("change", [one_bit, cut_short])
def test_what_the_operator_changes_in_the_spool_is_held_against_nobody(
    scene: Hostile, change: Callable[[bytes], bytes]
) -> None:
    opened = scene.collecting()
    scene.hostile.submit()
    scene.honest[0].submit()
    overwrite(scene.spooled(scene.honest[0]), change)
    ending = scene.finish()
    assert isinstance(ending, RoundAbandoned)
    assert (ending.reason, ending.silo) == ("spool-changed", "silo-0")
    again = scene.collecting()
    assert (again.round, again.attempt) == (opened.round, opened.attempt + 1)
    assert again.round_key != opened.round_key
    scene.hostile.submit()
    assert scene.cohort(scene.finish()) == [*HONEST, HOSTILE]


def test_another_silos_update_in_the_place_of_ones_own_is_the_spools_doing_too(scene: Hostile) -> None:
    scene.collecting()
    scene.hostile.submit()
    scene.honest[0].submit()
    theirs = scene.spooled(scene.hostile).read_bytes()
    overwrite(scene.spooled(scene.honest[0]), lambda blob: theirs)
    ending = scene.finish()
    assert isinstance(ending, RoundAbandoned)
    assert (ending.reason, ending.silo) == ("spool-changed", "silo-0")


def test_deleting_an_accepted_update_from_the_spool_changes_nothing(scene: Hostile) -> None:
    scene.collecting()
    scene.hostile.submit()
    scene.honest[0].submit()
    scene.spooled(scene.honest[0]).unlink()
    assert scene.cohort(scene.finish()) == [*HONEST, HOSTILE]


def test_two_ciphertexts_under_one_tag_swapped_between_check_and_merge_bar_the_sender(scene: Hostile) -> None:
    """The sender knows its content key, and the operator overwrites the spool for it. From here on it is barred."""
    opened = scene.collecting()
    silo, sealed = scene.hostile, scene.hostile.good()
    silo.machine.accepted(silo.hold(sealed), silo.upload(sealed.blob))
    parts = Anatomy(sealed.blob, silo.layout.update_chunks)
    swapped = parts.under_one_tag(sealed.key.raw(), 0, torch.full((4,), 1000.0).numpy().tobytes())
    assert swapped != sealed.blob
    overwrite(scene.spooled(silo), lambda blob: swapped)
    ending = scene.finish()
    assert isinstance(ending, RoundAbandoned)
    assert (ending.reason, ending.silo) == ("changed-after-admission", HOSTILE)
    # The next attempt is the others'. It is not told of it, and what it can seal from the public log is refused.
    scene.present = scene.honest
    again = scene.collecting()
    assert (again.round, again.attempt) == (opened.round, opened.attempt + 1)
    blob = seal(silo, again, vectors(silo.layout)).blob
    error, logged = scene.refused(lambda: silo.upload(blob))
    assert str(error) == (
        "changed-after-admission: expected silos whose updates stay as they were admitted, found silo-3, whose bytes "
        "changed between admission and merge in an earlier attempt; find out who changed them; a successor agreement "
        f"can take the silo in again{UNSIGNED}"
    )
    assert logged == []
    assert scene.cohort(scene.finish()) == HONEST


def overwrite(spooled: Path, change: Callable[[bytes], bytes]) -> None:
    """In place: the enclave holds the file open."""
    with spooled.open("r+b") as file:
        data = change(file.read())
        file.seek(0)
        file.write(data)
        file.truncate()


# What is left of it all


def test_the_log_has_a_reset_for_each_lost_parent(scene: Hostile) -> None:
    lost = [entry for entry in scene.made.entries(UpdateRefused) if entry.code == "wrong-parent"]
    assert [entry.silo for entry in scene.made.entries(ControlReset)] == [entry.silo for entry in lost]


def test_nothing_of_a_refused_update_is_in_the_model(scene: Hostile) -> None:
    parameters = scene.model()[Section.PARAMETERS]
    assert parameters[CANARY] == 0
    assert (parameters[CANARY + 1 :] != 0).all()
    assert parameters.isfinite().all()
    # One that is taken would have shown.
    silo = scene.honest[0]
    silo.submit(seal(silo, scene.collecting(), vectors(silo.layout, canary=5.0)))
    scene.finish()
    assert scene.model()[Section.PARAMETERS][CANARY] != 0


def test_the_audit_passes(scene: Hostile) -> None:
    told = scene.audit()
    assert told.splitlines()[0].startswith("PASS (simulated: protects nothing)")
    accepted = [entry.silo for entry in scene.made.entries(UpdateAccepted)]
    assert set(accepted) == {*HONEST, HOSTILE}
