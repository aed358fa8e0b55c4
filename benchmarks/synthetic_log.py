"""A valid history of any length, written fast: for the benchmark of the log (needs `tests` on the path).

Five silos of four owners under simulated evidence, four updates a round, new admissions before credentials expire, a
restart of the appliance now and then; every checkpoint signed, and each round's opening cosigned by a quorum. What lies
in the directory is what the log's own writer leaves, but for fsync, which nobody misses here.
"""

from collections.abc import Iterable
from pathlib import Path

from audit_history import LOG_KEY, QUORUM, START, Boot, Recorder, agreement_of, identity

from audit.entries import Entry
from audit.merkle import Tree, leaf_hash
from audit.note import Checkpoint
from audit.replay import RESTART
from audit.resources import CHECKPOINT, checkpoint_name, object_name, tile_name
from audit.right_edge import RightEdge
from audit.tiles import TILE_WIDTH, Tile, encode_bundle
from protocol.agreement import Agreement

SILOS = ("silo-0", "silo-1", "silo-2", "silo-3")
ENTRIES_A_BOOT = 100_000


def agreement(rounds: int) -> Agreement:
    """The agreement of these logs."""
    return agreement_of(lambda text: text.replace("rounds = 2", f"rounds = {rounds}"))


class PlainWriter:
    """Writes a log's files in one pass, a tile a level in memory."""

    def __init__(self, root: Path, origin: str) -> None:
        self._root = root
        self._origin = origin
        self._edge = RightEdge()
        self._entries: list[bytes] = []
        self._growing: dict[int, tuple[Tile, Tree]] = {}
        self._partial: dict[int | None, dict[Tile, bytes]] = {}
        self.checkpoints = 0

    @property
    def size(self) -> int:
        return self._edge.size

    def put(self, name: str, data: bytes) -> None:
        """A file, if it is not there."""
        path = self._root / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def append(self, leaves: Iterable[bytes], cosigners: Iterable[str]) -> None:
        """One batch under one checkpoint."""
        for leaf in leaves:
            self._entries.append(leaf)
            for tile, tree in self._edge.append(leaf_hash(leaf)):
                self._growing[tile.level or 0] = (tile, tree)
                if not tile.partial:
                    self.put(tile_name(tile), tree.row(0, 0, TILE_WIDTH))
                    self._growing.pop(tile.level or 0)
                    self._partial.pop(tile.level, None)
            if len(self._entries) == TILE_WIDTH:
                self.put(tile_name(Tile(level=None, index=self.size // TILE_WIDTH - 1)), encode_bundle(self._entries))
                self._entries.clear()
                self._partial.pop(None, None)
        self._sign(cosigners)

    def close(self) -> None:
        """Write what only the end tells: the newest checkpoint, and the partial tiles that nothing superseded."""
        self.put(CHECKPOINT, (self._root / checkpoint_name(self.size)).read_bytes())
        for tiles in self._partial.values():
            for tile, data in tiles.items():
                self.put(tile_name(tile), data)

    def _sign(self, cosigners: Iterable[str]) -> None:
        for level, (tile, tree) in self._growing.items():
            self._partial.setdefault(level, {})[tile] = tree.row(0, 0, tile.width)
        if self._entries:
            tile = Tile(level=None, index=self.size // TILE_WIDTH, width=len(self._entries))
            self._partial.setdefault(None, {})[tile] = encode_bundle(self._entries)
        checkpoint = Checkpoint.sign(self._origin, self._edge.head(), LOG_KEY)
        lines = [checkpoint.cosign(f"{self._origin}/{silo}", identity(silo), time=START) for silo in cosigners]
        self.put(checkpoint_name(self.size), checkpoint.with_signatures(lines).encode())
        self.checkpoints += 1


class Synthetic:
    """A history of at least `entries` entries below `root`; two checkpoints a round if `sparse`, else one an event."""

    def __init__(self, root: Path, entries: int, *, sparse: bool) -> None:
        self.agreement = agreement(max(2, entries // 7))
        self._recorder = Recorder(self.agreement)
        self._writer = PlainWriter(root, self.agreement.log.origin)
        self._sparse = sparse
        self._staged: list[bytes] = []
        self._written: set[bytes] = set()
        self._boot_ends = ENTRIES_A_BOOT
        self._write(entries)
        self._writer.close()
        self.size, self.checkpoints = self._writer.size, self._writer.checkpoints

    def _write(self, entries: int) -> None:
        recorder = self._recorder
        self._take(recorder.genesis())
        self._take(recorder.started())
        self._admit()
        self._take(recorder.opened())
        self._sign(QUORUM)
        while self._writer.size < entries:
            for silo in SILOS:
                self._take(recorder.accepted(silo))
                self._event()
            self._take(recorder.committed())
            self._sign(())  # The cohort is fixed before there is a result.
            self._take(recorder.published())
            if self._writer.size >= self._boot_ends:
                self._restart()
            elif min(recorder.history.admitted[silo].expires for silo in SILOS) < recorder.time + 100:
                self._admit()
            self._take(recorder.opened())
            self._sign(QUORUM)

    def _restart(self) -> None:
        self._boot_ends += ENTRIES_A_BOOT
        self._take(self._recorder.opened())
        self._event()
        self._recorder.boot = Boot(str(self._boot_ends))
        self._take(self._recorder.started())
        self._take(self._recorder.abandoned(RESTART))
        self._event()
        self._admit()

    def _admit(self) -> None:
        for silo in SILOS:
            self._take(self._recorder.admitted(silo))
            self._event()

    def _take(self, entry: Entry) -> None:
        self._recorder.history.apply(entry)
        self._recorder.history.outcomes.clear()
        self._staged.append(entry.encode())

    def _event(self) -> None:
        if not self._sparse:
            self._sign(())

    def _sign(self, cosigners: Iterable[str]) -> None:
        for digest, data in self._recorder.objects.items():
            if digest not in self._written:
                self._written.add(digest)
                self._writer.put(object_name(digest), data)
        self._recorder.objects.clear()
        self._writer.append(self._staged, cosigners)
        self._staged.clear()
