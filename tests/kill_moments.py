"""The states of a federation in which a test kills somebody, each of them held exactly, or caught and verified.

    moment                       the log's phase    in the middle of
    ---------------------------  -----------------  ----------------------------------------------------------------
    nobody-admitted              idle               nothing: the genesis is logged, nobody has come yet
    two-admitted                 idle               the enrolment of four silos
    initial-model-half-way       idle               the upload of the initial model
    enclave-away                 as it was          the enclave's start: it is there and has done nothing yet
    first-head-not-cosigned      collecting         the quorum's first cosignatures for a boot
    model-half-way               collecting         the download of an announced round's model, by everybody
    in-training                  collecting         the silos' training loops; nothing is uploaded
    sealed-not-sent              collecting         silo-3's update is durable at the silo, no byte of it is sent
    update-half-way              collecting         the upload of silo-3's update
    not-judged                   collecting         silo-3's update is complete in the spool; the enclave has no verdict
    two-accepted                 collecting         two of four updates are logged
    all-accepted                 collecting         all updates are logged, the cohort isn't
    merging                      committed          the merge: the next model's body is being written
    merged-not-published         committed          bodies and state of the next round are durable; no entry names them
    published-not-cosigned       collecting         the quorum over `published` and the next `opened`; two have cosigned
    closed-not-cosigned          closed             the quorum over the last `published` and `closed`
    final-model-half-way         closed             the download of the final model, by one silo

A moment is a context: the state holds inside, and everything that held it lets go afterwards. It gives the silo that is
in the middle of something. The enclave's states are those of `appliance/enclave/machine.py` and of the table in
`startup.py`; a silo's are those of `silo_client/machine.py` and of the table in `state.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from kill_stage import Stage
from process_federation import wait_until

from audit.entries import LogClosed, RoundCommitted, RoundOpened, UpdateAccepted
from audit.phases import Phase

_HALF_BYTES = 5 * 2**18
_TRIES = 8
Hold = Callable[[Stage], AbstractContextManager[str]]


@contextmanager
def nobody_admitted(stage: Stage) -> Iterator[str]:
    assert stage.admitted() == set()
    yield ""


@contextmanager
def two_admitted(stage: Stage) -> Iterator[str]:
    names = stage.names[:2]
    stage.start(*(name for name in names if name not in stage.silos))
    for name in names:
        stage.silos[name].wait_for("enrolled")
    assert stage.admitted() == set(names)
    yield names[1]


@contextmanager
def initial_model_half_way(stage: Stage) -> Iterator[str]:
    with ExitStack() as closed:
        for valve in stage.valves.values():
            closed.enter_context(valve.closed(up=_HALF_BYTES))
        stage.start(*(name for name in stage.names if name not in stage.silos))
        sender = wait_until(
            lambda: next((name for name in stage.names if stage.spooled(name, ".part") >= 2**20), None),
            "half of the initial model",
        )
        yield sender


@contextmanager
def enclave_away(stage: Stage) -> Iterator[str]:
    size = stage.log_size()
    stage.made.kill_child("enclave")
    with stage.newborn_enclave():
        assert stage.log_size() == size
        yield stage.names[1]


@contextmanager
def first_head_not_cosigned(stage: Stage) -> Iterator[str]:
    """The first heads of a boot's; where it is past them already, of the next boot's."""
    for _ in range(_TRIES):
        size = stage.log_size()
        stage.restart_enclave()
        with stage.caught(
            lambda size=size: stage.log_size() > size and isinstance(stage.last(), RoundOpened),  # type: ignore[misc]
            lambda: isinstance(stage.last(), RoundOpened) and stage.cosignatures() == 0,
        ) as so:
            if so:
                yield stage.names[2]
                return
    raise AssertionError("the quorum was always quicker")


@contextmanager
def model_half_way(stage: Stage) -> Iterator[str]:
    with ExitStack() as closed:
        for valve in stage.valves.values():
            closed.enter_context(valve.closed(down=_HALF_BYTES))
        stage.made.gate(stage.number)
        wait_until(lambda: all(valve.down.is_full for valve in stage.valves.values()), "four downloads to stop")
        stage.number += 1
        last = stage.last()
        assert isinstance(last, RoundOpened)
        assert last.round == stage.number
        assert stage.cosignatures() >= stage.made.agreement.log.cosigners
        assert not any(event.get("round") == stage.number for run in stage.silos.values() for event in run.events)
        yield stage.names[3]


@contextmanager
def in_training(stage: Stage) -> Iterator[str]:
    assert stage.accepted() == []
    yield stage.names[2]


@contextmanager
def sealed_not_sent(stage: Stage) -> Iterator[str]:
    name = stage.names[3]
    with stage.valves[name].closed(up=0):
        stage.made.gate(stage.number, name)
        update = wait_until(lambda: stage.state(name).pending, "a sealed update")
        assert update.round == stage.number
        assert stage.spooled(name, f"{update.upload_id.hex()}.*") == 0
        yield name


@contextmanager
def update_half_way(stage: Stage) -> Iterator[str]:
    name = stage.names[3]
    with stage.valves[name].closed(up=_HALF_BYTES):
        stage.made.gate(stage.number, name)
        wait_until(lambda: stage.spooled(name, ".part") >= 2**20, "half of an update")
        assert stage.accepted() == []
        yield name


@contextmanager
def not_judged(stage: Stage) -> Iterator[str]:
    with ExitStack() as frozen:
        with update_half_way(stage) as name:
            frozen.enter_context(stage.frozen("enclave"))
        update = stage.state(name).pending
        assert update is not None
        wait_until(lambda: stage.spooled(name, f"{update.upload_id.hex()}.blob"), "a complete update in the spool")
        assert stage.accepted() == []
        yield name


@contextmanager
def two_accepted(stage: Stage) -> Iterator[str]:
    names = stage.names[:2]
    stage.submit(*names)
    assert sorted(stage.accepted()) == sorted(names)
    yield names[0]


@contextmanager
def all_accepted(stage: Stage) -> Iterator[str]:
    for _ in range(_TRIES):
        stage.submit(*stage.names[:3])
        size = stage.log_size()
        stage.made.gate(stage.number)
        with stage.caught(
            lambda size=size: stage.log_size() > size,  # type: ignore[misc]
            lambda: isinstance(stage.last(), UpdateAccepted) and len(stage.accepted()) == len(stage.names),
        ) as so:
            if so:
                yield stage.names[0]
                return
        stage.go_on()
    raise AssertionError("the cohort was always committed before")


@contextmanager
def merging(stage: Stage) -> Iterator[str]:
    models = stage.made.store / "models"
    for _ in range(_TRIES):
        stage.made.gate(stage.number)
        with stage.caught(
            lambda: any(models.glob(".*.tmp")),
            lambda: isinstance(stage.last(), RoundCommitted) and any(models.glob(".*.tmp")),
        ) as so:
            if so:
                yield stage.names[0]
                return
        stage.go_on()
    raise AssertionError("no merge was caught")


@contextmanager
def merged_not_published(stage: Stage) -> Iterator[str]:
    states = stage.made.store / "state"
    for _ in range(_TRIES):
        known = set(states.glob("*"))
        stage.made.gate(stage.number)
        with stage.caught(
            lambda known=known: any(path.suffix != ".tmp" for path in set(states.glob("*")) - known),  # type: ignore[misc]
            lambda: isinstance(stage.last(), RoundCommitted),
        ) as so:
            if so:
                yield stage.names[0]
                return
        stage.go_on()
    raise AssertionError("the round was always published before")


@contextmanager
def published_not_cosigned(stage: Stage) -> Iterator[str]:
    with _last_head_not_cosigned(stage) as name:
        last = stage.last()
        assert isinstance(last, RoundOpened)
        assert last.round == stage.number
        yield name


@contextmanager
def closed_not_cosigned(stage: Stage) -> Iterator[str]:
    if stage.number > stage.rounds:
        with _closed_anew(stage) as name:
            yield name
        return
    while stage.number < stage.rounds:
        stage.go_on()
    with _last_head_not_cosigned(stage) as name:
        assert isinstance(stage.last(), LogClosed)
        yield name


@contextmanager
def _closed_anew(stage: Stage) -> Iterator[str]:
    """Another boot of an appliance whose log is closed: its own head wants cosignatures before it releases anything."""
    with stage.frozen(*stage.names[:2]):
        said = {name: len(stage.silos[name].events) for name in stage.names[2:]}
        stage.restart_enclave()
        for name, events in said.items():
            stage.silos[name].wait_for("enrolled", since=events)
        assert stage.cosignatures() == 0
        yield stage.names[0]


@contextmanager
def _last_head_not_cosigned(stage: Stage) -> Iterator[str]:
    """Two of four silos stop when they have submitted, so that what follows their round can't get its quorum."""
    stage.submit(*stage.names[:3])
    with stage.frozen(*stage.names[:2]):
        stage.made.gate(stage.number)
        stage.made.wait_published(stage.number)
        stage.number += 1
        wait_until(lambda: isinstance(stage.last(), RoundOpened | LogClosed), "the next head")
        assert stage.cosignatures() == 0
        yield stage.names[0]


@contextmanager
def final_model_half_way(stage: Stage) -> Iterator[str]:
    while stage.number <= stage.rounds:
        stage.go_on()
    stage.rest(*stage.names)
    name = next(name for name in reversed(stage.names) if name not in stage.let_go)
    with stage.valves[name].closed(down=_HALF_BYTES):
        stage.let_go.add(name)
        stage.made.gate(stage.rounds + 1, name)
        wait_until(lambda: stage.valves[name].down.is_full, "a download to stop")
        assert stage.silos[name].running
        yield name


MOMENTS: dict[str, tuple[Phase | None, Hold]] = {
    "nobody-admitted": (Phase.IDLE, nobody_admitted),
    "two-admitted": (Phase.IDLE, two_admitted),
    "initial-model-half-way": (Phase.IDLE, initial_model_half_way),
    "enclave-away": (None, enclave_away),
    "first-head-not-cosigned": (Phase.COLLECTING, first_head_not_cosigned),
    "model-half-way": (Phase.COLLECTING, model_half_way),
    "in-training": (Phase.COLLECTING, in_training),
    "sealed-not-sent": (Phase.COLLECTING, sealed_not_sent),
    "update-half-way": (Phase.COLLECTING, update_half_way),
    "not-judged": (Phase.COLLECTING, not_judged),
    "two-accepted": (Phase.COLLECTING, two_accepted),
    "all-accepted": (Phase.COLLECTING, all_accepted),
    "merging": (Phase.COMMITTED, merging),
    "merged-not-published": (Phase.COMMITTED, merged_not_published),
    "published-not-cosigned": (Phase.COLLECTING, published_not_cosigned),
    "closed-not-cosigned": (Phase.CLOSED, closed_not_cosigned),
    "final-model-half-way": (Phase.CLOSED, final_model_half_way),
}
