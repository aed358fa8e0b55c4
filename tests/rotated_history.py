"""A small honest history whose log key is rotated twice, of the pieces of `audit_history`, for tests of the audit."""

from audit_history import QUORUM, Batch, Boot, Recorder, agreement_of, told

from audit.entries import Entry
from audit.phases import RESTART, Phase

AGREEMENT = agreement_of()
SECOND = Boot("B", log="log 2")
THIRD = Boot("C", log="log 3")


def rotate(recorder: Recorder, boot: Boot) -> None:
    """A boot under a new log key, in one batch, which abandons an open attempt."""
    entries: list[Entry] = [recorder.rotated(boot), recorder.started()]
    for entry in entries:
        recorder.history.apply(entry)
    if recorder.history.phase is Phase.INTERRUPTED:
        entries.append(recorder.abandoned(RESTART))
        recorder.history.apply(entries[-1])
    recorder.batches.append(Batch(tuple(entries), successor=boot.log))


def admit_all(recorder: Recorder) -> None:
    for silo in ("silo-0", "silo-2", "silo-4"):
        recorder.batch(recorder.admitted(silo))


def train(recorder: Recorder) -> None:
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    for silo in ("silo-0", "silo-2", "silo-4"):
        recorder.batch(recorder.accepted(silo))
    recorder.batch(recorder.committed())
    recorder.batch(recorder.published())


def rotated_history() -> Recorder:
    """A round under the first key, an attempt that the rotation interrupts, another rotation at once, a round."""
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    admit_all(recorder)
    train(recorder)
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    recorder.batch(recorder.accepted("silo-0"))
    rotate(recorder, SECOND)
    rotate(recorder, THIRD)
    admit_all(recorder)
    train(recorder)
    recorder.batch(recorder.closed(), cosigners=QUORUM)
    return recorder


HONEST = told(rotated_history())
