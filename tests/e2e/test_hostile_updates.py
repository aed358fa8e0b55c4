"""One silo of four sends what it should not, to a real appliance: what it is told, what is logged, and what it changes.

Rounds go on all the while. At the end every published model is the honest silos' alone, and the audit passes. What
fails before the silo's own signature is verified is answered and not logged, and costs it nothing: one attempt sees it
all (docs/decisions/0005-refusals-logged.md). What it has signed and sealed itself is logged, and ends its part.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
import torch
from blob_surgery import METADATA, Anatomy
from hostile_scene import Net, Scene
from least_squares_oracle import TASK
from process_federation import federation
from silo_by_hand import CANARY, Sealed, seal, vectors

from audit.entries import ControlReset, RoundPublished, UpdateAccepted, UpdateRefused
from protocol import canonical
from protocol.keys import SEALING_SEED_BYTES, SealingKey, SigningKey
from protocol.layout import Section
from protocol.sealing import BlobKind, size_of
from protocol.sealing.geometry import WRAP_BYTES
from protocol.sealing.header import HEADER_LIMIT_BYTES
from protocol.session import UploadAccepted
from protocol.update import UpdateMetadata
from protocol.wire.methods import BULK_MESSAGE_BYTES, DOWNLOAD, DownloadRequest

torch.set_num_threads(1)
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
HONEST, HOSTILE = ["silo-0", "silo-1", "silo-2"], "silo-3"
STEPS, ETA = 10, 0.1


@dataclass
class Hostile(Scene):
    """With what the hostile silo has kept of the first round: an update that was used, and one that it never sent."""

    used: Sealed
    unsent: Sealed

    def __init__(self, made: object) -> None:
        super().__init__(made)  # type: ignore[arg-type]
        self.collecting()
        silo = self.hostile
        self.unsent, self.used = silo.good(), silo.good()
        silo.machine.accepted(silo.hold(self.used), silo.upload(self.used.blob))
        assert self.cohort(self.finish()) == [*HONEST, HOSTILE]

    def good(self, **changes: object) -> Sealed:
        """An update of the hostile silo for the open attempt, good but for what is changed."""
        self.collecting()
        return self.hostile.good(**changes)

    def parts(self) -> Anatomy:
        """Its bytes by their parts."""
        return Anatomy(self.good().blob, self.hostile.layout.update_chunks)


@pytest.fixture(scope="module")
def scene() -> Iterator[Hostile]:
    # Nothing here ends by a deadline.
    replace = {"round_deadline_seconds = 60": "round_deadline_seconds = 600", "rounds = 40": "rounds = 100"}
    with federation(network=Net(), task=TASK, replace=replace, owners=OWNERS) as made:
        made.start_appliance()
        yield Hostile(made)


# Answered, not logged, and of no consequence

Attack = Callable[[Hostile], bytes]


def header(**changes: object) -> Attack:
    return lambda scene: scene.good(**changes).blob


def ahead(scene: Hostile, **by: int) -> bytes:
    """Sealed for another moment, so many rounds or attempts on."""
    entry = scene.collecting()
    return scene.good(**{field: getattr(entry, field) + count for field, count in by.items()}).blob


def neighbours_used(scene: Hostile) -> bytes:
    """Another silo's update that a round has used, as it was."""
    scene.collecting()
    silo = scene.honest[0]
    sealed = silo.good(upload_id=silo.machine.state.parent)
    assert sealed.header.upload_id is not None
    return sealed.blob


def spliced(scene: Hostile, *segments: int, ciphertext_only: bool = False) -> bytes:
    """Segments of another update of the same silo in one's own."""
    ours, theirs = scene.parts(), scene.parts()
    for segment in segments:
        part = (ours.text if ciphertext_only else ours.whole)(segment)
        ours = Anatomy(ours.replaced(part, theirs.blob[part]), ours.chunks)
    return ours.blob


def reheaded(scene: Hostile) -> bytes:
    """An old update under a header of today's, with the old key, segments and signature."""
    fresh, old = scene.parts(), Anatomy(scene.used.blob, scene.hostile.layout.update_chunks)
    return fresh.blob[: fresh.wrap.start] + old.blob[old.wrap.start :]


def reordered(scene: Hostile) -> bytes:
    parts = scene.parts()
    return parts.swapped(parts.whole(1), parts.whole(2))


def under_each_others_tags(scene: Hostile) -> bytes:
    parts = scene.parts()
    return parts.swapped(parts.text(1), parts.text(2))


def in_the_place_of_buffers(scene: Hostile) -> bytes:
    parts = scene.parts()
    return parts.swapped(parts.whole(3), parts.whole(4))


def flipped(part: str, segment: int | None = None, place: int = 0) -> Attack:
    def attack(scene: Hostile) -> bytes:
        parts = scene.parts()
        found = getattr(parts, part)
        return parts.flipped(found if segment is None else found(segment), place)

    return attack


def flipped_field(field: bytes) -> Attack:
    """A bit of a header field's value, so that it is another valid one."""

    def attack(scene: Hostile) -> bytes:
        parts = scene.parts()
        place = parts.blob[parts.header].index(b'"' + field + b'":') + len(field) + 3
        return parts.flipped(parts.header, place + 1 + parts.blob[parts.header][place + 1 :].index(b"3"))

    return attack


CORRUPT = "update-signature: expected the signature of the admitted silo over header, key and chunks, and the chunks"
WRONG_SIZE = (
    "wrong-size: expected {size} bytes, found {sent}; send the whole object as it was sealed, for the agreement"
)
IMPOSSIBLE = (
    "wrong-size: expected an upload of {smallest} to {largest} bytes, as the layout has it, found one of {sent}; "
)
UNLOGGED: dict[str, tuple[Attack, str]] = {
    "an update for the next round": (
        lambda scene: ahead(scene, round=1),
        "wrong-round: expected round {round}, found {next}; ",
    ),
    "an update for the round before": (
        lambda scene: ahead(scene, round=-1),
        "wrong-round: expected round {round}, found ",
    ),
    "an update for another attempt": (
        lambda scene: ahead(scene, attempt=1),
        "wrong-round: expected attempt 1, found 2",
    ),
    "an update in its neighbour's name": (
        header(sender="silo-0"),
        "wrong-sender: expected sender silo-3, found silo-0; send only what is sealed as oneself",
    ),
    "an update in the appliance's name": (
        header(sender="appliance"),
        "wrong-sender: expected sender silo-3, found appliance",
    ),
    "its neighbour's own update": (
        lambda scene: (scene.collecting(), scene.honest[0].good().blob)[1],
        "wrong-sender: expected sender silo-3, found silo-0; send only what is sealed as oneself",
    ),
    "another layout": (header(layout=b"\x0a" * 32), "wrong-layout: expected layout sha256:"),
    "another agreement": (header(agreement=b"\x0a" * 32), "agreement-mismatch: expected agreement sha256:"),
    "another log": (
        header(origin="simulated.elsewhere.example/log"),
        "other-log: expected log simulated.strongroom.example/digits, found simulated.elsewhere.example/log",
    ),
    "another base model": (
        header(base_model=b"\x0a" * 32),
        "wrong-base-model: expected base model sha256:",
    ),
    "another boot": (header(boot_id=b"\x0a" * 32), "wrong-boot: expected boot id sha256:"),
    "an encoding that was not agreed": (
        header(encoding="float16"),
        "malformed: expected a sealed blob, found blob header.encoding: expected ",
    ),
    "a model in place of an update": (header(kind=BlobKind.MODEL), "malformed: expected kind update, found model; sen"),
    "a control variate": (header(kind=BlobKind.CONTROL), "malformed: expected kind update, found control; send the ki"),
    "a second initial model": (
        header(kind=BlobKind.INITIAL, round=0, attempt=0),
        "already-complete: expected one complete upload for each attempt and silo, found the initial model is here",
    ),
    "a signature by another key": (header(signer=SigningKey(b"\x07" * 32)), CORRUPT),
    "its own old update again": (
        lambda scene: (scene.collecting(), scene.used.blob)[1],
        "already-complete: expected one complete upload for each attempt and silo, found silo-3 has a complete upload",
    ),
    "an old update that it never sent": (
        lambda scene: (scene.collecting(), scene.unsent.blob)[1],
        "wrong-round: expected round {round}, found 1; train on the newest announcement",
    ),
    "its own old update under a new header": (reheaded, CORRUPT),
    "the upload id of another silo's used update": (neighbours_used, "already-complete: expected one complete upload"),
    "a byte cut off": (lambda scene: scene.good().blob[:-1], WRONG_SIZE),
    "a byte added": (lambda scene: scene.good().blob + b"\0", WRONG_SIZE),
    "the last chunk cut out": (
        lambda scene: (parts := scene.parts()).blob[: parts.whole(5).start] + parts.blob[parts.signature],
        WRONG_SIZE,
    ),
    "a whole chunk cut out": (
        lambda scene: (parts := scene.parts()).blob[: parts.whole(1).start] + parts.blob[parts.whole(2).start :],
        IMPOSSIBLE,
    ),
    "a whole chunk added": (
        lambda scene: (parts := scene.parts()).blob[: parts.whole(2).stop] + parts.blob[parts.whole(2).start :],
        IMPOSSIBLE,
    ),
    "no wrapped key": (
        lambda scene: (parts := scene.parts()).replaced(slice(parts.wrap.start - 4, parts.wrap.start), bytes(4)),
        "wrong-size: expected {unwrapped} bytes, found {sent}; send the whole object as it was sealed",
    ),
    "two chunks in each other's place": (reordered, CORRUPT),
    "two chunks under each other's tags": (under_each_others_tags, CORRUPT + " that it is over, found segment 1: does"),
    "parameters in the place of buffers": (in_the_place_of_buffers, CORRUPT),
    "a chunk of another of its updates": (lambda scene: spliced(scene, 2), CORRUPT),
    "a chunk of another under its own tag": (lambda scene: spliced(scene, 2, ciphertext_only=True), CORRUPT),
    "metadata of another of its updates": (lambda scene: spliced(scene, METADATA), CORRUPT),
    "all chunks of another of its updates": (lambda scene: spliced(scene, METADATA, 1, 2, 3, 4, 5), CORRUPT),
    "a bit flipped in the magic": (
        lambda scene: scene.parts().flipped(slice(0, 18)),
        "malformed: expected a sealed blob, found blob: expected it to begin with b'strongroom-blob/1\\n'; send the st",
    ),
    "a bit flipped in the header's sender": (
        flipped_field(b"sender"),
        "wrong-sender: expected sender silo-3, found si",
    ),
    "a bit flipped in the header's parent": (flipped_field(b"upload_id"), CORRUPT),
    "a bit flipped in the header's form": (flipped("header"), "malformed: expected a sealed blob, found "),
    "a bit flipped in the wrapped key": (flipped("wrap", None, 700), CORRUPT),
    "a bit flipped in the metadata": (
        flipped("text", METADATA),
        CORRUPT + " that it is over, found segment 0: does no",
    ),
    "a bit flipped in a chunk": (flipped("text", 2, 1000), CORRUPT + " that it is over, found segment 2: does not op"),
    "a bit flipped in the integer buffers": (flipped("text", 5), CORRUPT + " that it is over, found segment 5: does n"),
    "a bit flipped in a tag": (flipped("tag", 1), CORRUPT),
    "a bit flipped in the signature": (flipped("signature", None, 63), CORRUPT),
    "noise of the right size": (
        lambda scene: os.urandom(len(scene.good().blob)),
        "malformed: expected a sealed blob, found blob: expected it to begin with",
    ),
}


@pytest.mark.parametrize("attack", UNLOGGED)
def test_is_refused_and_not_held_against_anybody(scene: Hostile, attack: str) -> None:
    make, sentence = UNLOGGED[attack]
    blob = make(scene)
    error, logged = scene.refused(lambda: scene.hostile.upload(blob))
    assert str(error).startswith(sentence.format(**facts(scene, blob)))
    assert logged == []


def facts(scene: Hostile, blob: bytes) -> dict[str, int]:
    """The numbers in the sentences."""
    entry, chunks = scene.collecting(), scene.hostile.layout.chunks
    size = len(scene.good().blob)
    return {
        "round": entry.round,
        "next": entry.round + 1,
        "sent": len(blob),
        "size": size,
        "unwrapped": size - WRAP_BYTES,
        "smallest": size_of(1, WRAP_BYTES, scene.hostile.layout.update_chunks),
        "largest": size_of(HEADER_LIMIT_BYTES, WRAP_BYTES, chunks),
    }


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
    blob = scene.good().blob
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
    first, second = scene.good(), scene.good()
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


# Logged: what the silo itself has signed and sealed


def metadata(**changes: object) -> bytes:
    values: dict[str, object] = {"steps": STEPS, "step_size_sum": STEPS * ETA, "metrics": {"loss": 1.0}, **changes}
    return UpdateMetadata(**values).encode()  # type: ignore[arg-type]


def poisoned(section: Section, value: float, place: int = -1) -> Callable[[Hostile], Sealed]:
    def make(scene: Hostile) -> Sealed:
        sections = vectors(scene.hostile.layout, canary=5.0)
        sections[section][place] = value
        return seal(scene.hostile, scene.collecting(), sections)

    return make


def sealed_with(**changes: object) -> Callable[[Hostile], Sealed]:
    return lambda scene: seal(scene.hostile, scene.collecting(), vectors(scene.hostile.layout, canary=5.0), **changes)  # type: ignore[arg-type]


def orphaned(scene: Hostile) -> Sealed:
    if scene.collecting() and scene.hostile.machine.state.parent is None:
        scene.hostile.submit()
        scene.finish()
    return sealed_with(parent=None)(scene)


NOT_FINITE = (
    "update-not-finite: expected finite numbers, found NaN or infinity among the {}; lower the step size; nothi"
)
SUM = "update-steps: expected step sizes that sum to more than 0 and at most 1, found fewer or more; train with the rou"
COUNT = "update-steps: expected 1 to 10 local steps, found fewer or more; train with the round's local_steps and learni"
FORM = "update-corrupt: expected a key that opens, and metadata, found metadata of another form; seal the update again"
LOGGED: dict[str, tuple[Callable[[Hostile], Sealed], str]] = {
    **{
        f"{value} in the {section}": (poisoned(section, value), NOT_FINITE.format(section))
        for section in (Section.PARAMETERS, Section.FLOAT_BUFFERS)
        for value in (math.nan, math.inf, -math.inf)
    },
    "a norm beyond the agreement's": (
        poisoned(Section.PARAMETERS, 101.0),
        "update-too-large: expected a norm of at most 100, found a larger one; lower the step size, or clip the update",
    ),
    "the largest float there is": (poisoned(Section.PARAMETERS, 3.4e38), "update-too-large: expected a norm of at mo"),
    "no steps": (sealed_with(metadata=metadata(steps=0)), COUNT),
    "a step too many": (sealed_with(metadata=metadata(steps=STEPS + 1)), COUNT),
    "step sizes that sum to too much": (sealed_with(metadata=metadata(step_size_sum=1.0001)), SUM),
    "step sizes that sum to nothing": (sealed_with(metadata=metadata(step_size_sum=0.0)), SUM),
    "step sizes below nothing": (sealed_with(metadata=metadata(step_size_sum=-0.5)), SUM),
    "a metric that is no number": (
        sealed_with(metadata=metadata().replace(b'"loss":"1"', b'"loss":"nan"')),
        FORM,
    ),
    "metadata with a key of its own": (
        sealed_with(metadata=canonical.encode({"metrics": {}, "step_size_sum": "1", "steps": 1, "weight": "99"})),
        FORM,
    ),
    "no metadata": (sealed_with(metadata=b""), FORM),
    "a key wrapped to somebody else": (
        sealed_with(recipient=SealingKey(b"\x07" * SEALING_SEED_BYTES).public.raw),
        "update-corrupt: expected a key that opens, and metadata, found a key that does not; seal the update again to",
    ),
    "a parent that was never used": (
        sealed_with(parent=b"\x07" * 16),
        "wrong-parent: expected the silo's last used update as parent: ",
    ),
    "no parent where there is one": (
        orphaned,
        "wrong-parent: expected the silo's last used update as parent: ",
    ),
}


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
    # Its part in the attempt is over: neither the same again nor a good one changes that.
    for again in (sealed.blob, scene.hostile.good().blob):
        error, logged = scene.refused(lambda blob=again: scene.hostile.upload(blob))  # type: ignore[misc]
        assert str(error).startswith("already-complete: ")
        assert logged == []
    assert scene.cohort(scene.finish()) == HONEST


def test_the_log_has_a_reset_for_each_lost_parent(scene: Hostile) -> None:
    lost = [entry for entry in scene.made.entries(UpdateRefused) if entry.code == "wrong-parent"]
    assert [entry.silo for entry in scene.made.entries(ControlReset)] == [entry.silo for entry in lost]


def test_nothing_of_a_refused_update_is_in_the_model(scene: Hostile) -> None:
    parameters = scene.model()[Section.PARAMETERS]
    assert parameters[CANARY] == 0
    assert (parameters[CANARY + 1 :] != 0).all()
    assert parameters.isfinite().all()


def test_the_audit_passes(scene: Hostile) -> None:
    told = scene.audit()
    assert told.splitlines()[0].startswith("PASS (simulated: protects nothing)")
    accepted = [entry.silo for entry in scene.made.entries(UpdateAccepted)]
    assert set(accepted) <= {*HONEST, HOSTILE}
