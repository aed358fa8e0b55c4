"""The operator changes the store: while nobody runs, and between two steps of a running enclave. What he then reads.

Nothing that is wrong is published: the enclave doesn't start, or ends, or goes on with what was right.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from hostile_operator import copied
from process_federation import Ports, Running
from stopped_federation import Stopped
from store_tampering import (
    Tampering,
    behind_a_link,
    body,
    changed,
    checkpoint,
    cut_short,
    emptied,
    first_state,
    log_cut_off,
    made_a_folder,
    made_a_pipe,
    newest_state,
    newest_state_replaced,
    note,
    of_a_file,
    of_a_state,
    removed,
    replaced,
    rolled_back,
    root_changed,
    tile,
)

from appliance.enclave import ports as enclave_ports
from appliance.enclave.startup import StartRefusedError, start
from attestation.collect.measurement import installed_code, measure
from attestation.collect.platform import SimulatedPlatform
from audit.store import DirectoryStore, StoreError
from protocol.layout import Layout

torch.set_num_threads(1)
MODEL, CONTROL = partial(body, kind="model"), partial(body, kind="control")
ENTRIES, HASHES = partial(tile, kind="entries"), partial(tile, kind="0")
DAMAGED = "the store is damaged, or older than its own log: "
OR_LOST = (
    r"\. If what is missing is lost, start with --recover, and let the silos authorise a new key "
    r"\(`strongroom silo recover`\)$"
)
BODY = DAMAGED + r"sealed {0} 00000003-[0-9a-f]+\.{0}: missing from the store, or changed there \({1}"
STATE = DAMAGED + r"sealed state [0-9a-f]{16}…: "
LOG = "the store's log does not verify: log/"
NO_FILE = "store: {}: (expected a regular file|a symbolic link, or a file where a folder should be)$"
LAST_TAG, SIGNATURE = -65, -1

# By what was changed: how, and what the enclave says about it.
CHANGES: dict[str, tuple[Tampering, str]] = {
    "the model's signature": (of_a_file(MODEL, changed(SIGNATURE)), BODY.format("model", "signature does not verify")),
    "the model's last tag": (of_a_file(MODEL, changed(LAST_TAG)), BODY.format("model", "signature does not verify")),
    "the model, cut short": (of_a_file(MODEL, cut_short), BODY.format("model", "wrong-size: expected 4775 bytes")),
    "the model, emptied": (of_a_file(MODEL, emptied), BODY.format("model", "store: .*: expected 18 bytes at 0")),
    "the model, removed": (of_a_file(MODEL, removed), BODY.format("model", "store: .*: no such name")),
    "the model, behind a link": (of_a_file(MODEL, behind_a_link), BODY.format("model", "store: .*: a symbolic link")),
    "a folder for the model": (of_a_file(MODEL, made_a_folder), BODY.format("model", "store: .*: expected a regular")),
    "a pipe for the model": (of_a_file(MODEL, made_a_pipe), BODY.format("model", "store: .*: expected a regular file")),
    "the model of a round before": (
        replaced(MODEL),
        DAMAGED + r"sealed model .*: another body than the one that the sealed state names" + OR_LOST,
    ),
    "the control's last tag": (of_a_file(CONTROL, changed(LAST_TAG)), BODY.format("control", "signature does not ver")),
    "the control, removed": (of_a_file(CONTROL, removed), BODY.format("control", "store: .*: no such name")),
    "the control of a round before": (
        replaced(CONTROL),
        DAMAGED + r"sealed control .*: another body than the one that the sealed state names" + OR_LOST,
    ),
    "all bodies, removed": (
        lambda store, before: removed(store / "models"),
        BODY.format("model", "store: .*: no such"),
    ),
    "the sealed state": (of_a_state(newest_state, changed(40)), STATE + "changed since the log named it" + OR_LOST),
    "the sealed state, cut short": (
        of_a_state(newest_state, cut_short),
        STATE + "changed since the log named it" + OR_LOST,
    ),
    "the sealed state, removed": (
        of_a_state(newest_state, removed),
        STATE + "the log names it, the store does not hold it" + OR_LOST,
    ),
    "the sealed state of a round before, under its name": (
        newest_state_replaced,
        STATE + "changed since the log named it" + OR_LOST,
    ),
    "the sealed states of a round before": (
        rolled_back("state"),
        STATE + "the log names it, the store does not hold it" + OR_LOST,
    ),
    "a folder for the sealed state": (of_a_state(newest_state, made_a_folder), NO_FILE.format("state/.*")),
    "the first sealed state": (
        of_a_state(first_state, changed(40)),
        STATE + "changed since the log named it" + OR_LOST,
    ),
    "the sealed states, behind a link": (
        lambda store, before: behind_a_link(store / "state"),
        NO_FILE.format("state/.*"),
    ),
    "an entry": (of_a_file(ENTRIES, changed(-1)), LOG + "tile/entries/000.p/28: entry 27 is not the one whose hash "),
    "the entries, cut short": (of_a_file(ENTRIES, cut_short), LOG + "tile/entries/000.p/28: entry bundle: expected "),
    "the entries, removed": (of_a_file(ENTRIES, removed), LOG + "tile/entries/000.p/28: expected a tile, found none$"),
    "the entries of a round before": (
        replaced(ENTRIES),
        LOG + "tile/entries/000.p/28: entry bundle: expected 28 entri",
    ),
    "the entries, behind a link": (of_a_file(ENTRIES, behind_a_link), NO_FILE.format("log/tile/entries/000.p/28")),
    "a hash": (of_a_file(HASHES, changed(-1)), LOG + "tile/0/000.p/28: hash 27 is not that of the entries, which the "),
    "the hashes, cut short": (of_a_file(HASHES, cut_short), LOG + "tile/0/000.p/28: tile: expected 28 hashes"),
    "the hashes, removed": (of_a_file(HASHES, removed), LOG + "tile/0/000.p/28: expected a tile, found none$"),
    "the hashes of a round before": (replaced(HASHES), LOG + "tile/0/000.p/28: tile: expected 28 hashes"),
    "an earlier bundle": (
        lambda store, before: changed(-1)(store / "log/tile/entries/000.p/7"),
        LOG + "tile/entries/000.p/7: a partial tile differs from the tree that grew out of it$",
    ),
    "the checkpoint": (
        of_a_file(checkpoint, root_changed),
        LOG + "checkpoint: signature does not verify under ed25519:",
    ),
    "the checkpoint, cut short": (of_a_file(checkpoint, cut_short), LOG + "checkpoint: note: expected a text, a blank"),
    "the checkpoint, behind a link": (of_a_file(checkpoint, behind_a_link), NO_FILE.format("log/checkpoint")),
    "a pipe for the checkpoint": (of_a_file(checkpoint, made_a_pipe), NO_FILE.format("log/checkpoint")),
    "the checkpoint's note": (
        of_a_file(note, root_changed),
        LOG + "checkpoints/28.note: signature does not verify under ",
    ),
    "an earlier checkpoint": (
        lambda store, before: root_changed(store / "log/checkpoints/7.note"),
        LOG + "checkpoints/7.note: its root is not that of the newer checkpoint's tree$",
    ),
    "the log, cut off at a round before": (
        log_cut_off,
        STATE + "the log names it, the store does not hold it" + OR_LOST,
    ),
    "the log of a round before": (rolled_back("log"), STATE + "the log names it, the store does not hold it" + OR_LOST),
    "the log and the sealed states of a round before": (
        rolled_back("log", "state"),
        DAMAGED
        + r"sealed model 00000002-.*: missing from the store, or changed there \(store: .*: no such name\)"
        + OR_LOST,
    ),
    "the log, behind a link": (lambda store, before: behind_a_link(store / "log"), NO_FILE.format("log/checkpoint")),
}
UNDONE: dict[str, Tampering] = {
    "nothing": lambda store, before: None,
    "the checkpoint, removed, whose note is there": of_a_file(checkpoint, removed),
    "the checkpoint of a round before, beside the newest note": replaced(checkpoint),
    "the note, removed, whose checkpoint is there": of_a_file(note, removed),
    "a bundle beyond the log's end": lambda store, before: (store / "log/tile/entries/000.p/99").write_bytes(b"junk"),
    "a model's ciphertext, which whoever opens it notices": of_a_file(MODEL, changed(-90)),
    "all objects, removed, which the audit misses": lambda store, before: removed(store / "log/objects"),
}


@pytest.fixture
def store(stopped: Stopped) -> Iterator[Path]:
    """A copy to tamper with."""
    copy = copied(stopped.store, "changed")
    yield copy
    shutil.rmtree(copy)


def boot_here(stopped: Stopped, store: Path) -> None:
    """What the enclave's process does to start, without the seconds that it takes to load."""
    made = stopped.federation
    files = DirectoryStore(store)
    try:
        start(
            agreement=made.agreement,
            layout=Layout.parse((made.folder / "layout.json").read_bytes()),
            store=files,
            platform=SimulatedPlatform(measure(installed_code())),
            ports=enclave_ports.Ports(
                clock=lambda: int(time.time()),
                random=os.urandom,
                send=lambda silo, message: None,
                ask=lambda witness, message: None,
                wake=lambda: None,
                event=lambda line: None,
            ),
        )
    finally:
        files.close()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below it, but the spool's and the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("lock", "enclave.sock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "spool" not in path.parts}


@pytest.mark.parametrize("what", CHANGES)
def test_it_does_not_start_with_another(stopped: Stopped, store: Path, what: str) -> None:
    tamper, words = CHANGES[what]
    tamper(store, stopped.round_before)
    left = contents(store)
    with pytest.raises((StartRefusedError, StoreError)) as refused:
        boot_here(stopped, store)
    assert re.match(words, str(refused.value)), refused.value
    # Nothing is written. What lies beyond a log's end, where it was cut, may be gone.
    assert contents(store).items() <= left.items()


@pytest.mark.parametrize("what", UNDONE)
def test_it_starts_with(stopped: Stopped, store: Path, what: str) -> None:
    """Positive controls, and what a start makes good, or leaves to others to notice."""
    UNDONE[what](store, stopped.round_before)
    boot_here(stopped, store)


@dataclass
class Ended:
    """Processes that were started on changed stores, all at once, and how they ended: by what was changed."""

    lines: dict[str, str]
    codes: dict[str, int]
    served: Running
    served_code: int


def start_on(stopped: Stopped, changes: tuple[str, ...], served: str) -> Ended:
    """The enclave's process on some, and `strongroom appliance serve` on one."""
    made, operator = stopped.federation, stopped.operator
    stores = {what: copied(stopped.store, f"real-{number}") for number, what in enumerate((*changes, served))}
    for what, store in stores.items():
        CHANGES[what][0](store, stopped.round_before)
    made.write_appliance(Ports(), file="changed.toml", store=stores[served].name)
    running = made.serve("changed.toml")
    enclaves = {what: operator.boot(stores[what]) for what in changes}
    codes = {what: enclave.exit_code() for what, enclave in enclaves.items()}
    ended = Ended(
        lines={what: enclave.last_line for what, enclave in enclaves.items()},
        codes=codes,
        served=running,
        served_code=running.exit_code(),
    )
    for store in stores.values():
        shutil.rmtree(store)
    return ended


SERVED = "the model of a round before"
REAL = ("the sealed state, removed", "an entry")
MORE = (
    "the control, removed",
    "a pipe for the model",
    "the sealed state of a round before, under its name",
    "the sealed states, behind a link",
    "the hashes, cut short",
    "the checkpoint",
    "the log, cut off at a round before",
    "the log of a round before",
)


@pytest.fixture(scope="module")
def ended(stopped: Stopped) -> Ended:
    return start_on(stopped, REAL, SERVED)


@pytest.mark.parametrize("what", REAL)
def test_the_operator_reads_one_line_that_names_it(ended: Ended, what: str) -> None:
    assert ended.codes[what] == 3
    assert re.match(f"event=start-refused {CHANGES[what][1]}", ended.lines[what]), ended.lines[what]


def test_the_operator_of_an_appliance_reads_it_too(ended: Ended) -> None:
    *_, refused, over = ended.served.errors.splitlines()
    assert re.match(rf"enclave \| event=start-refused {CHANGES[SERVED][1]}", refused)
    assert over == "supervisor | event=ended child=enclave status=3"
    assert ended.served_code == 3
    assert ended.served.events == []


@pytest.mark.slow
def test_more_of_them(stopped: Stopped) -> None:
    found = start_on(stopped, MORE, "the log and the sealed states of a round before")
    assert found.codes == dict.fromkeys(MORE, 3)
    assert found.served_code == 3
    for what in MORE:
        assert re.match(f"event=start-refused {CHANGES[what][1]}", found.lines[what]), found.lines[what]


def test_objects_that_are_gone_or_changed_are_missed_by_the_audit(stopped: Stopped, store: Path) -> None:
    verify = ("audit", "verify", store, "--agreement", "federation.toml")
    object_ = max(
        (path for path in (store / "log/objects").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    kept = object_.read_bytes()
    object_.write_bytes(kept[:-1] + b"?")
    verdict = stopped.federation.command(*verify)
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (1, "FAIL (simulated: protects nothing)")
    assert f"log/objects/sha256/{object_.parent.name}/{object_.name}" in verdict.stdout.splitlines()[1]
    object_.unlink()
    verdict = stopped.federation.command(*verify)
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (2, "INCOMPLETE (simulated: protects nothing)")
    assert object_.name in verdict.stdout
