"""What an operator without keys can make of an announcement: other signatures, entries, proofs, keys and outcomes.

He takes what has passed through his hands, and computes what follows from the store. A silo, `HELPER`, lends its key.
"""

import os
from collections.abc import Callable
from dataclasses import replace

from cheated_federation import HELPER, VICTIM, Stage, note_of
from hostile_operator import Cheat
from memory_federation import signing_key

from audit.agreed import cosigner_of
from audit.entries import RoundOpened, RoundPublished, parse_entry
from audit.note import NoteSignature
from protocol.keys import SigningKey
from protocol.session import Announcement, parse_to_silo

Change = Callable[[Stage, Announcement], Announcement]
_TIME = 1_800_000_000


def announcing(stage: Stage, change: Change, silo: str = VICTIM) -> Cheat:
    """Every announcement to a silo, changed."""

    def to_silo(name: str, message: bytes) -> list[bytes]:
        parsed = parse_to_silo(message)
        if name != silo or not isinstance(parsed, Announcement):
            return [message]
        return [change(stage, parsed).encode()]

    return Cheat(to_silo=to_silo)


def before(stage: Stage, round_number: int) -> Announcement:
    """What was announced to the victim of an earlier round, or of this one's first attempt."""
    return next(each for each in stage.announced(VICTIM) if parse_entry(each.opened.entry).round == round_number)


# Signatures


def signed_by(announcement: Announcement, *signatures: NoteSignature) -> Announcement:
    """The same with these lines under its checkpoint."""
    found = note_of(announcement)
    found = replace(found, note=replace(found.note, signatures=signatures))
    return replace(announcement, checkpoint=found.encode().decode())


def log_line(announcement: Announcement) -> NoteSignature:
    """The log's own signature."""
    found = note_of(announcement)
    return next(line for line in found.note.signatures if line.name == found.origin)


def votes(announcement: Announcement) -> list[NoteSignature]:
    """The cosignatures: the quorum's, and no more."""
    found = note_of(announcement)
    return [line for line in found.note.signatures if line.name != found.origin]


def cosigned_by_strangers(stage: Stage, announcement: Announcement) -> Announcement:
    """Under the silos' names, each with a key of the operator's."""
    found, agreement = note_of(announcement), stage.federation.agreement
    names = [cosigner_of(agreement, silo).name for silo in agreement.silos]
    lines = [found.cosign(name, SigningKey(os.urandom(32)), time=_TIME) for name in names]
    return signed_by(announcement, log_line(announcement), *lines)


def cosigned_by_strangers_with_the_silos_key_ids(stage: Stage, announcement: Announcement) -> Announcement:
    """The same, and the key ids are those of the silos' keys."""
    forged, agreement = note_of(cosigned_by_strangers(stage, announcement)), stage.federation.agreement
    ids = {cosigner_of(agreement, silo).name: cosigner_of(agreement, silo).key_id for silo in agreement.silos}
    lines = [replace(line, key_id=ids[line.name]) for line in forged.note.signatures if line.name in ids]
    return signed_by(announcement, log_line(announcement), *lines)


def cosigned_by_one_owner_twice(stage: Stage, announcement: Announcement) -> Announcement:
    """Alpenklinik has two silos, and one of them helps."""
    agreement = stage.federation.agreement
    name = cosigner_of(agreement, agreement.silo(HELPER)).name
    second = note_of(announcement).cosign(name, signing_key(HELPER), time=_TIME)
    return signed_by(announcement, log_line(announcement), *votes(announcement)[:2], second)


def of_a_longer_log(announcement: Announcement) -> Announcement:
    """Its checkpoint says that there is one entry more."""
    size = note_of(announcement).size
    return replace(announcement, checkpoint=announcement.checkpoint.replace(f"\n{size}\n", f"\n{size + 1}\n", 1))


# Entries and outcomes


def with_terms(announcement: Announcement, **terms: object) -> Announcement:
    """Its entry says something else."""
    changed = replace(parse_entry(announcement.opened.entry), **terms)  # type: ignore[arg-type]
    return replace(announcement, opened=replace(announcement.opened, entry=changed.encode()))


def with_the_entry_of_round_3(stage: Stage, announcement: Announcement) -> Announcement:
    """It is in this very tree; and with it the keys that were handed out then."""
    entry = stage.logged(lambda entry: isinstance(entry, RoundOpened) and entry.round == 3, announcement)
    old = before(stage, 3)
    return replace(announcement, opened=entry, model=old.model, control=old.control)


def published(stage: Stage, announcement: Announcement) -> Announcement:
    """The publication of round 3 as the entry."""
    entry = stage.logged(lambda entry: isinstance(entry, RoundPublished) and entry.round == 3, announcement)
    return replace(announcement, opened=entry)


def with_the_outcome_of_round_3(stage: Stage, announcement: Announcement) -> Announcement:
    """In the place of what became of the attempt that the silo asks for."""
    outcome = stage.logged(lambda entry: isinstance(entry, RoundPublished) and entry.round == 3, announcement)
    return replace(announcement, outcome=outcome)


def with_a_made_up_outcome(stage: Stage, announcement: Announcement) -> Announcement:
    """A publication that used the update, in the place of the abandoned attempt's end."""
    real = parse_entry(stage.logged(lambda entry: isinstance(entry, RoundPublished), announcement).entry)
    assert isinstance(real, RoundPublished)
    assert announcement.outcome is not None
    entry = replace(real, round=4, attempt=1).encode()
    return replace(announcement, outcome=replace(announcement.outcome, entry=entry))
