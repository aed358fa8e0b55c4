"""The updates that a hostile silo sends, each with the sentence that it reads, and the scene that it sends them in.

`UNLOGGED` are refused before the silo's own signature over these bytes for this attempt is verified: they are answered,
and cost it nothing. `LOGGED` are what it has signed and sealed itself: they are logged, and end its part in the attempt
(docs/decisions/0005-refusals-logged.md).
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

from blob_surgery import METADATA, Anatomy
from hostile_scene import Scene
from silo_by_hand import Sealed, seal, vectors

from protocol import canonical
from protocol.keys import SEALING_SEED_BYTES, SealingKey, SigningKey
from protocol.layout import Section
from protocol.sealing import BlobKind, size_of
from protocol.sealing.geometry import WRAP_BYTES
from protocol.sealing.header import HEADER_LIMIT_BYTES
from protocol.update import UpdateMetadata

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

    def sealed(self, **changes: object) -> Sealed:
        """An update of the hostile silo for the open attempt, good but for the canary and what is changed."""
        return seal(self.hostile, self.collecting(), vectors(self.hostile.layout, canary=5.0), **changes)  # type: ignore[arg-type]

    def parts(self) -> Anatomy:
        """Its bytes by their parts."""
        return Anatomy(self.sealed().blob, self.hostile.layout.update_chunks)


# Answered, not logged, and of no consequence

Attack = Callable[[Hostile], bytes]


def header(**changes: object) -> Attack:
    return lambda scene: scene.sealed(**changes).blob


def ahead(scene: Hostile, **by: int) -> bytes:
    """Sealed for another moment, so many rounds or attempts on."""
    entry = scene.collecting()
    return scene.sealed(**{field: getattr(entry, field) + count for field, count in by.items()}).blob


def neighbours(scene: Hostile) -> bytes:
    """Another silo's update for this very attempt, before it has arrived."""
    scene.collecting()
    return scene.honest[0].good().blob


def neighbours_used(scene: Hostile) -> bytes:
    """Another silo's update that a round has used, as the operator finds it in the spool."""
    scene.collecting()
    return scene.spooled(scene.honest[0]).read_bytes()


def under_neighbours_id(scene: Hostile) -> bytes:
    """One's own update under the upload id of another silo's used one."""
    scene.collecting()
    return scene.sealed(upload_id=scene.honest[0].machine.state.parent).blob


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


def flipped_digit(field: bytes) -> Attack:
    """A bit of the last decimal digit in a header field's value, so that it is another valid one."""

    def attack(scene: Hostile) -> bytes:
        parts = scene.parts()
        data = parts.blob[parts.header]
        start = data.index(b'"' + field + b'":"') + len(field) + 4
        end = data.index(b'"', start)
        return parts.flipped(parts.header, max(place for place in range(start, end) if data[place] in b"0123456789"))

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
    "its neighbour's own update": (neighbours, "wrong-sender: expected sender silo-3, found silo-0; send only what is"),
    "its neighbour's used update": (neighbours_used, "already-complete: expected one complete upload for each attempt"),
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
        "already-complete: expected one complete upload for each attempt and silo, found the model is here",
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
    "its neighbour's upload id": (
        under_neighbours_id,
        "already-complete: expected one complete upload for each attempt",
    ),
    "a byte cut off": (lambda scene: scene.sealed().blob[:-1], WRONG_SIZE),
    "a byte added": (lambda scene: scene.sealed().blob + b"\0", WRONG_SIZE),
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
        flipped_digit(b"sender"),
        "wrong-sender: expected sender silo-3, found si",
    ),
    "a bit flipped in the header's upload id": (flipped_digit(b"upload_id"), CORRUPT),
    "a bit flipped in the header's boot id": (flipped_digit(b"boot_id"), "wrong-boot: expected boot id sha256:"),
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
        lambda scene: os.urandom(len(scene.sealed().blob)),
        "malformed: expected a sealed blob, found blob: expected it to begin with",
    ),
}


def facts(scene: Hostile, blob: bytes) -> dict[str, int]:
    """The numbers in the sentences."""
    entry, chunks = scene.collecting(), scene.hostile.layout.chunks
    size = len(scene.sealed().blob)
    return {
        "round": entry.round,
        "next": entry.round + 1,
        "sent": len(blob),
        "size": size,
        "unwrapped": size - WRAP_BYTES,
        "smallest": size_of(1, WRAP_BYTES, scene.hostile.layout.update_chunks),
        "largest": size_of(HEADER_LIMIT_BYTES, WRAP_BYTES, chunks),
    }


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
    return lambda scene: scene.sealed(**changes)


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
