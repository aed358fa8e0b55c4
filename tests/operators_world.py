"""What an operator can do to a federation, move by move, and what must hold after each: real enclaves, real silos.

Everything runs in this process: any number of enclaves, each on a store of its own, and the silos, each connected to
one of them or to none. A move is honest (time passes, somebody is killed or away, a message is lost) or a cheat (a
store is copied, set back, changed; a message is repeated, changed, sent to somebody else). `check` holds the world
against what nobody in it can see; `conclude` asks whether the federation can go on, or else who is convicted by what.
"""

from collections import Counter
from dataclasses import dataclass, field

from memory_federation import MemorySilo
from operators_parts import ROUNDS, WITNESS, Instance, WitnessBeside, copy_of, roots_of
from stopping_store import Stopped, StoppingStore

from audit.log_files import LogFiles
from audit.note import Checkpoint
from audit.receipt_files import HandedIn
from audit.report import AuditReport, AuditVerdict
from audit.store import MemoryStore, Store
from audit.verify import verify
from protocol.errors import ProtocolError, RefusalCode, RefusedError
from protocol.session import Announcement, parse_to_silo
from silo_client.machine import Finish, Train
from silo_client.state import SiloState
from silo_client.witness import LogBrokenError

FORGETFUL = "silo-3"
"""The one silo that may lose its memory: f = 1."""
_ENROL_AGAIN = (RefusalCode.NOT_ADMITTED, RefusalCode.CREDENTIAL_EXPIRED, RefusalCode.WRONG_BOOT)


@dataclass
class World:
    """All of it. `cheats`: what the operator did that nobody honest does; `alarms`: what silos and enclaves said."""

    now: int = 1_800_000_000
    instances: list[Instance] = field(default_factory=list)
    copies: list[MemoryStore] = field(default_factory=list)
    at: dict[str, Instance] = field(default_factory=dict)
    mute: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    faulty: set[str] = field(default_factory=set)
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    uploads: list[tuple[str, bytes]] = field(default_factory=list)
    arriving: bytes = b""
    cheats: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    results: dict[int, bytes] = field(default_factory=dict)
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    former: list[dict[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = Instance(self, MemoryStore())
        self.instances.append(first)
        self.witness = WitnessBeside(self)
        self.witness.know(first)
        self.witness.join(first)
        self.names = [terms.name for terms in first.agreement.silos]
        for name in self.names:
            self.connect(name, first)

    # What anybody may do, or suffer

    def connect(self, name: str, instance: Instance) -> None:
        """A silo enrols, and opens a session; its process is the one that it had, if it has one."""
        self.leave(name)
        if not instance.runs:
            return
        silo = self.silo(name)
        for other in self.instances:
            other.silos.pop(name, None)
        instance.silos[name] = silo
        with self.watching(name, instance):
            instance.enrol(silo)
            self.at[name] = instance
            self.broken.discard(name)

    def silo(self, name: str) -> MemorySilo:
        """A silo's process; a new one if there is none."""
        for instance in self.instances:
            if name in instance.silos:
                return instance.silos[name]
        home = self.instances[0]
        for instance in self.instances:
            instance.silo_stores = home.silo_stores
        return home.silo(name)

    def leave(self, name: str) -> None:
        """A silo's session ends; what was on its way to it is gone."""
        instance = self.at.pop(name, None)
        if instance is not None and instance.runs:
            instance.outbox = type(instance.outbox)(each for each in instance.outbox if each[0] != name)
            with self.watching(None, instance):
                instance.enclave.left(name)

    def kill_silo(self, name: str) -> None:
        """A silo's process is gone, and another one comes with its store."""
        instance = self.at.get(name)
        self.leave(name)
        for each in self.instances:
            each.silos.pop(name, None)
        if instance is not None:
            self.connect(name, instance)

    def forget(self) -> None:
        """The forgetful silo loses its state: from then on it counts as faulty."""
        instance = self.at.get(FORGETFUL)
        self.leave(FORGETFUL)
        for each in self.instances:
            each.silos.pop(FORGETFUL, None)
            each.silo_stores[FORGETFUL] = MemoryStore()
        self.faulty.add(FORGETFUL)
        self.heads.pop(FORGETFUL, None)
        if instance is not None:
            self.connect(FORGETFUL, instance)

    def pass_on(self, count: int) -> None:
        """So many messages arrive, from whichever enclaves have sent some."""
        for _ in range(count):
            for instance in self.instances:
                if instance.runs:
                    with self.watching(None, instance):
                        instance.enclave.tick()
                if instance.runs and instance.outbox:
                    name, message = instance.outbox.popleft()
                    if self.at.get(name) is instance:
                        with self.watching(name, instance):
                            instance.deliver(name, message)
                if instance.runs and instance.to_witnesses:
                    with self.watching(WITNESS, instance):
                        self.witness.carry(instance)

    def lose(self, number: int, count: int) -> None:
        """So many messages of an instance are lost."""
        outbox = self.instance(number).outbox
        for _ in range(min(count, len(outbox))):
            outbox.popleft()

    def wait(self) -> None:
        """Time passes until something is due."""
        due = [found for each in self.instances if each.runs and (found := each.enclave.next_due()) is not None]
        self.now = max([self.now, *due])
        for instance in self.instances:
            if instance.runs:
                with self.watching(None, instance):
                    instance.enclave.tick()

    def restart(self, number: int, *, stop_at: int | None = None, after: bool = False, rotates: bool = False) -> None:
        """An enclave ends and is started on its own disk, maybe to stop again at its n-th write from then.

        `rotates`: under a new log key.
        """
        instance = self.instance(number)
        store = instance.disk if stop_at is None else StoppingStore(instance.disk, stop_at, after)
        self.start(instance, store, rotates=rotates)  # type: ignore[arg-type]

    def start(self, instance: Instance, store: Store, *, rotates: bool = False) -> None:
        """Start an enclave on a store; the silos that were with it enrol again."""
        those = [name for name, where in self.at.items() if where is instance]
        instance.runs = False
        for name in those:
            self.leave(name)
        try:
            instance.store = store
            instance.boot(rotate_log_key=rotates)
        except Stopped:
            instance.store = instance.disk
            instance.boot()
        instance.runs = True
        if instance is self.instances[0]:
            # Whoever runs the witness adds the keys of the log that he knows, and of no other.
            self.witness.know(instance)
        self.witness.join(instance)
        for name in those:
            self.connect(name, instance)

    def play(self, count: int) -> None:
        """So many messages arrive, and time passes where none is on its way."""
        for _ in range(count):
            self.pass_on(1)
            self.check()
            if not any(each.outbox or each.to_witnesses for each in self.instances if each.runs):
                self.wait()

    def play_until_published(self, rounds: int) -> None:
        """Until the first instance has published so many rounds."""
        for _ in range(500):
            if self.instances[0].kinds().count("round.published") >= rounds:
                return
            self.play(1)
        raise AssertionError(f"round {rounds} was never published: {self.alarms}")

    def keep_copy(self, number: int) -> None:
        """He keeps a copy of a store: that alone harms nobody."""
        self.copies.append(copy_of(self.instance(number).disk))

    def instance(self, number: int) -> Instance:
        return self.instances[number % len(self.instances)]

    # What nobody in it can see

    def watching(self, name: str | None, instance: Instance) -> "Watch":
        return Watch(self, name, instance)

    def said(self, name: str | None, error: ProtocolError) -> None:
        """A party has refused something."""
        code = str(error.refusal.code) if isinstance(error, RefusedError) else type(error).__name__
        self.alarms[code] += 1
        if isinstance(error, LogBrokenError) and name is not None:
            self.broken.add(name)

    def saw_release(self, step: Train | Finish) -> None:
        """A silo has believed an announcement: its result is the one of that number, and enough silos remember it."""
        number = step.entry.round - 1 if isinstance(step, Train) else step.entry.rounds
        assert self.results.setdefault(number, step.entry.model) == step.entry.model, f"round {number} twice"
        announced = parse_to_silo(self.arriving)
        assert isinstance(announced, Announcement)
        checkpoint = Checkpoint.parse(announced.checkpoint.encode())
        self.learn()
        agreement = self.instances[0].agreement
        remembering = [
            name
            for name, head in self.heads.items()
            if head[0] >= checkpoint.size and self.on_one_line(head, (checkpoint.size, checkpoint.root))
        ]
        assert WITNESS in remembering, "released, and the witness does not remember it"
        remembering.remove(WITNESS)
        needed = agreement.log.cosigners - len(self.faulty)
        assert len(set(remembering) - self.faulty) >= needed, "released, and not remembered by a quorum"

    def learn(self) -> None:
        """What every disk and every silo holds now."""
        for instance in self.instances:
            for size, root in roots_of(instance.disk).items():
                assert instance.lineage.setdefault(size, root) == root, f"size {size} was signed twice on one disk"
        for name in self.names:
            silo = next((each.silos[name] for each in self.instances if name in each.silos), None)
            self.learn_head(name, None if silo is None else silo.machine.state.head)
        self.learn_head(WITNESS, self.witness.head())

    def learn_head(self, name: str, head: Checkpoint | None) -> None:
        """A head that is durable: it only ever grows, along one history."""
        if head is not None:
            new, old = (head.size, head.root), self.heads.get(name)
            if old is not None and old != new:
                assert new[0] > old[0], f"{name} went back from {old[0]} to {new[0]}"
                assert self.on_one_line(old, new), f"{name} has held two histories"
            self.heads[name] = new

    def on_one_line(self, one: tuple[int, bytes], other: tuple[int, bytes]) -> bool:
        """Whether some disk's log has held both."""
        lineages = (*self.former, *(each.lineage for each in self.instances))
        return any(one in lineage.items() and other in lineage.items() for lineage in lineages)

    def check(self) -> None:
        """After each move."""
        self.learn()
        if not self.cheats:
            assert not self.broken, f"a false alarm: {self.alarms}"
            assert not self.alarms.keys() & {"log-rolled-back", "log-forked", "other-log", "witness-fork"}, self.alarms

    # The end

    def audit_of(self, disk: Store, *, with_receipts: bool = True) -> AuditReport:
        """`audit verify --head … --receipts …` with what witness and silos keep, but for one that lost its memory."""
        states = {name: state for name, state in self.states().items() if name not in self.faulty}
        kept = {name: state.head for name, state in states.items() if state.head is not None}
        if (head := self.witness.head()) is not None:
            kept[WITNESS] = head
        receipts = []
        for name, state in states.items() if with_receipts else ():
            for receipt in state.receipts():
                entry, proof = state.read_receipt(receipt)
                receipts.append(HandedIn(name=f"{name}/{receipt}", entry=entry, proof=proof))
        return verify(LogFiles(disk), self.instances[0].agreement, kept=kept, receipts=receipts)

    def states(self) -> dict[str, SiloState]:
        """What every silo that has a process remembers."""
        return {name: silo.machine.state for each in self.instances for name, silo in each.silos.items()}

    def strangers_to(self, instance: Instance) -> set[str]:
        """The honest silos that hold a head or a log key which this instance's log never had."""
        history = instance.enclave._ledger.history
        keys = {entry.previous for _, entry in history.key_changes} | {history.log_key}
        heads = {name for name, head in self.heads.items() if head not in instance.lineage.items()}
        pins = {
            name for name, state in self.states().items() if state.log_key is not None and state.log_key.raw not in keys
        }
        return (heads | pins) - self.faulty

    def conclude(self) -> str:
        """The operator stops cheating. The federation ends as it should, or what silos have kept convicts him.

        Returns "finished", or "convicted".
        """
        self.mute.clear()
        self.witness.away = False
        self.learn()
        for instance in self.instances:
            if not self.strangers_to(instance):
                self.finish_at(instance)
                return "finished"
        assert self.cheats, "an honest history came to contradictory heads"
        for instance in self.instances:
            report = self.audit_of(instance.disk)
            if report.verdict is not AuditVerdict.FAIL:
                self.turn_away(instance)
        return "convicted"

    def turn_away(self, instance: Instance) -> None:
        """A silo that has only followed the log to another key has no head and no receipt; it names what it sees."""
        for name in self.strangers_to(instance) & self.states().keys():
            before = self.alarms.total()
            self.connect(name, instance)
            assert self.alarms.total() > before, f"{name} goes on with a log that it does not know"
            assert name not in self.at or name in self.broken

    def finish_at(self, instance: Instance) -> None:
        """Everybody comes to one enclave, and the rounds that are left are played."""
        self.instances[:] = [instance, *(each for each in self.instances if each is not instance)]
        if FORGETFUL in self.faulty and self.cheats:
            # What it has believed since may be anything; its user begins anew.
            self.leave(FORGETFUL)
            self.forget()
        for other in self.instances[1:]:
            other.runs = False
        self.start(instance, instance.disk)
        for name in self.names:
            self.kill_silo(name)
            self.connect(name, instance)
        for _ in range(600):
            if not instance.unfinished() and len(instance.silos) == len(self.names):
                break
            self.pass_on(1)
            self.check()
            if not instance.outbox and not instance.to_witnesses:
                self.wait()
        assert not instance.unfinished(), (self.alarms, self.at.keys(), instance.enclave.describe())
        report = self.audit_of(instance.disk, with_receipts=False)
        assert report.verdict is AuditVerdict.PASS, report
        if self.audit_of(instance.disk).verdict is not AuditVerdict.PASS:
            # A receipt makes no head: whoever was admitted by another instance goes on here, and can show that.
            assert self.cheats, "an honest history whose receipts contradict it"
            self.alarms["receipts-convict"] += 1
        assert instance.kinds().count("round.published") == ROUNDS
        assert len({bytes(silo.models[-1].numpy().data) for silo in instance.silos.values()}) == 1


class Watch:
    """Around whatever an enclave or a silo does: what they refuse is noted, and who is stopped is started again."""

    def __init__(self, world: World, name: str | None, instance: Instance) -> None:
        self.world, self.name, self.instance = world, name, instance

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        world, instance = self.world, self.instance
        for name, silo in [*instance.silos.items()]:
            errors, silo.errors[:] = [*silo.errors], []
            for said in errors:
                world.said(name, said)
                self._end_session(name, said)
        if isinstance(error, Stopped):
            instance.store = instance.disk
            world.start(instance, instance.disk)
            return True
        if isinstance(error, ProtocolError):
            world.said(self.name, error)
            if self.name is not None:
                self._end_session(self.name, error)
            return True
        return False

    def _end_session(self, name: str, error: ProtocolError) -> None:
        """As the courier does: a broken log ends the process, another refusal the session, which begins anew."""
        world, instance = self.world, self.instance
        if isinstance(error, LogBrokenError):
            world.leave(name)
        elif isinstance(error, RefusedError) and error.refusal.code in _ENROL_AGAIN and world.at.get(name) is instance:
            world.connect(name, instance)
