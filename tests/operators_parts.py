"""The parts of `operators_world.py`: one enclave on one disk, and the further witness that all of them ask."""

from typing import TYPE_CHECKING

from memory_federation import MemoryFederation, MemorySilo, signing_key
from stopping_store import Stopped, StoppingStore

from audit.agreed import log_key_of
from audit.note import Checkpoint, VerifierKey
from audit.resources import checkpoint_name, checkpoint_sizes
from audit.store import MemoryStore, Store
from audit.witnessing.answer import Conflict, read_answer
from audit.witnessing.request import AddCheckpoint
from audit.witnessing.state import WitnessState
from audit.witnessing.witness import Witness
from protocol.sealing import MemoryBytes
from protocol.session import Cosigned, CosignRequest, Declined, Join
from silo_client.machine import Finish, Train

if TYPE_CHECKING:
    from operators_world import World

ROUNDS = 3
WITNESS = "w1"
WITNESS_KEY = VerifierKey.of_cosigner(f"witness.example/{WITNESS}", signing_key(WITNESS).public)
_REPLACE = {
    "rounds = 40": f"rounds = {ROUNDS}",
    "faulty = 1\n": f'faulty = 1\nwitnesses = 1\n\n[[log.witness]]\nname = "{WITNESS}"\nkey = "{WITNESS_KEY}"\n',
}


def copy_of(store: MemoryStore) -> MemoryStore:
    """Another disk with the same bytes."""
    copy = MemoryStore()
    copy._files = dict(store._files)
    return copy


def roots_of(store: Store) -> dict[int, bytes]:
    """The root of every checkpoint that a store holds, by size."""
    return {
        size: Checkpoint.parse(store.read(checkpoint_name(size), limit_bytes=2**20)).root
        for size in checkpoint_sizes(store)
    }


class Instance(MemoryFederation):
    """One enclave on one disk. `lineage`: every root that this disk's log ever had, by size."""

    def __init__(self, world: "World", disk: MemoryStore) -> None:
        self.world = world
        self.disk = disk
        self.lineage = roots_of(disk)
        self.runs = False
        super().__init__(silos=4, replace=_REPLACE, store=disk)
        self.runs = True

    @property
    def now(self) -> int:
        return self.world.now

    @now.setter
    def now(self, value: int) -> None:
        self.world.now = max(self.world.now, value)

    def deliver(self, name: str, message: bytes) -> None:
        """A message arrives, and what the silo makes of it is seen."""
        self.world.seen.append((name, message))
        self.world.arriving = message
        super().deliver(name, message)

    def act(self, silo: MemorySilo, step: object) -> None:
        if isinstance(step, Train | Finish):
            self.world.saw_release(step)
        super().act(silo, step)

    def complete_bytes(self, name: str, data: bytes) -> bytes:
        """The gateway says that an upload of this silo is complete."""
        return self.enclave.complete(name, MemoryBytes(data))

    def upload(self, silo: MemorySilo) -> None:
        pending = silo.machine.state.pending
        if pending is not None:
            source = silo.machine.state.open_pending()
            data = bytearray(source.size())
            source.read_into(0, data)
            self.world.uploads.append((silo.name, bytes(data)))
        if silo.name not in self.world.mute:
            super().upload(silo)


class WitnessBeside:
    """The witness that the agreement names and every release waits for, with its courier."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.disk = MemoryStore()
        self.away = False
        self.begin(self.disk, WitnessState.create(self.disk, WITNESS_KEY))

    def begin(self, store: Store, state: WitnessState | None = None) -> None:
        """A process, on what the disk has."""
        self.state = state or WitnessState.open(store, WITNESS_KEY)
        self.witness = Witness(
            key=signing_key(WITNESS), state=self.state, clock=lambda: self.world.now, event=lambda line: None
        )

    def restart(self, *, stop_at: int | None = None, after: bool = False) -> None:
        """Killed, and started again, maybe to stop at its n-th write from then."""
        self.begin(self.disk if stop_at is None else StoppingStore(self.disk, stop_at, after))  # type: ignore[arg-type]

    def know(self, instance: Instance) -> None:
        """Its operator adds the key that signs this log now; again, if the witness is stopped in it."""
        key = log_key_of(instance.agreement, instance.enclave._boot.log_key.public)
        try:
            self.state.add(key)
        except Stopped:
            self.restart()
            self.state.add(key)

    def head(self) -> Checkpoint | None:
        """The newest that it has cosigned."""
        known = WitnessState.open(self.disk, WITNESS_KEY).log(self.world.instances[0].agreement.log.origin)
        return None if known is None else known.checkpoint

    def join(self, instance: Instance, head: int = 0) -> None:
        """A boot is told what the witness has."""
        instance.enclave.witnessed(WITNESS, Join(head=head, pending=None).encode())

    def carry(self, instance: Instance) -> None:
        """The newest request of an enclave is brought there, and its answer back."""
        _, message = instance.to_witnesses.popleft()
        if self.away:
            return
        request = CosignRequest.parse(message)
        checkpoint = Checkpoint.parse(request.checkpoint.encode())
        old = request.consistency.size
        body = AddCheckpoint(old_size=old, proof=request.consistency.hashes, checkpoint=checkpoint).encode()
        try:
            found = read_answer(self.witness.add_checkpoint(body), WITNESS_KEY)
        except Stopped:
            self.restart()
            self.join(instance)  # The courier asks again, and is told where the witness is.
            return
        if not isinstance(found, Conflict):
            instance.enclave.witnessed(WITNESS, Cosigned(size=checkpoint.size, line=found.encode()).encode())
        elif found.size != old:
            self.join(instance, found.size)
        else:
            self.world.alarms["witness-fork"] += 1
            declined = Declined(size=checkpoint.size, code="log-forked", reason="another tree")
            instance.enclave.witnessed(WITNESS, declined.encode())
