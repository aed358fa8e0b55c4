"""A federation whose appliance loses its keys, and what comes of it: used by the tests of recoveries."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch
from memory_federation import MemoryFederation
from stopping_store import Stopped

from audit.entries import Entry, LogRecovered, RoundPublished, parse_entry
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict
from audit.store import MemoryStore, Store
from audit.verify import verify

_Entry = TypeVar("_Entry", bound=Entry)


def federation_of(rounds: int, **example: object) -> MemoryFederation:
    """Four silos of four owners, of whom three must agree."""
    made = MemoryFederation(replace={"rounds = 40": f"rounds = {rounds}"}, **example)  # type: ignore[arg-type]
    made.enrol_all()
    return made


def lose(store: Store) -> None:
    """The machine is gone. Log and bodies were copied; the sealed state, which would open nowhere, was not."""
    for name in store.list("state/"):
        store.delete(name)


def copy_of(store: MemoryStore) -> MemoryStore:
    other = MemoryStore()
    for name in store.list(""):
        other.write(name, store.read(name))
    return other


def come_back(made: MemoryFederation) -> None:
    """Every silo's process is started again, and enrols."""
    for terms in made.agreement.silos:
        made.enrol(made.silo(terms.name))


def reached(kind: str, rounds: int = 0, times: int = 1) -> Callable[[MemoryFederation], bool]:
    """Whether so many entries of this kind are in the log after so many published rounds."""

    def look(made: MemoryFederation) -> bool:
        kinds = made.kinds()
        published = [index for index, found in enumerate(kinds) if found == "round.published"]
        if len(published) < rounds:
            return False
        return kinds[published[rounds - 1] if rounds else 0 :].count(kind) >= times

    return look


def commit(made: MemoryFederation, rounds: int) -> None:
    """Stop between the commit of the round after these and its merge."""

    def stop(*_: object) -> None:
        raise Stopped

    made.run(until=lambda: reached("update.accepted", rounds, times=3)(made))
    made.enclave._closing.run = stop  # type: ignore[method-assign,assignment]
    with suppress(Stopped):
        made.run()
    assert made.kinds()[-1] == "round.committed"


def logged(made: MemoryFederation, kind: type[_Entry], store: MemoryStore | None = None) -> list[_Entry]:
    files = made.store if store is None else store
    made.store, kept = files, made.store
    try:
        return [entry for _, data in made.history() if isinstance(entry := parse_entry(data), kind)]
    finally:
        made.store = kept


def recovered(made: MemoryFederation) -> LogRecovered:
    """The log's newest recovery."""
    return logged(made, LogRecovered)[-1]


def model_of(made: MemoryFederation, round_number: int) -> bytes:
    """The content that a round published (0: the initial model)."""
    if round_number == 0:
        return made.agreement.model.initial
    return next(entry.model_out for entry in logged(made, RoundPublished) if entry.round == round_number)


def passed(made: MemoryFederation) -> AuditReport:
    report = verify(LogFiles(made.store), made.agreement)
    assert report.verdict is AuditVerdict.PASS, (report.divergence, report.missing)
    return report


def run_to_the_end(made: MemoryFederation) -> AuditReport:
    """Train to the end, under one model for all; the log passes its audit, each round published once."""
    made.run()
    silos = made.silos.values()
    assert all(silo.finished for silo in silos), [(silo.name, silo.errors) for silo in silos]
    assert all(torch.equal(silo.models[-1], next(iter(silos)).models[-1]) for silo in silos)
    rounds = [entry.round for entry in logged(made, RoundPublished)]
    assert rounds == list(range(1, made.agreement.federation.rounds + 1))
    return passed(made)
