"""What is there: every file below a log, by what its name says it is. Names only; nothing is read or believed here.

Called by the audit, which then accounts for each of them.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.log_files import Listed
from audit.merkle import MAXIMUM_SIZE
from audit.resources import CHECKPOINT, ROOT
from audit.tiles import Tile
from protocol.errors import MalformedError

_NOTE = re.compile(r"log/checkpoints/(0|[1-9][0-9]{0,18})\.note", re.ASCII)
_OBJECT = re.compile(r"log/objects/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})", re.ASCII)
_TEMPORARY = re.compile(r"(?:log/|log/.*/)\.[0-9]+-[0-9]+\.tmp", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A log's files, sorted by kind. `notes`: sizes that a checkpoint is kept for, ascending. `objects`: digests.

    `temporary`: what an interrupted write leaves. `unknown`: everything else, with what it is.
    """

    has_checkpoint: bool
    notes: Sequence[int]
    tiles: frozenset[Tile]
    objects: frozenset[bytes]
    temporary: tuple[str, ...]
    unknown: tuple[tuple[str, str], ...]

    @classmethod
    def take(cls, listed: Iterable[Listed]) -> "Inventory":
        """Sort a listing."""
        notes = array("Q")
        tiles: set[Tile] = set()
        objects: set[bytes] = set()
        temporary: list[str] = []
        unknown: list[tuple[str, str]] = []
        has_checkpoint = False
        for file in listed:
            name = file.name
            if file.other is not None:
                unknown.append((file.shown, file.other))
            elif name == CHECKPOINT:
                has_checkpoint = True
            elif (note := _NOTE.fullmatch(name)) and int(note[1]) <= MAXIMUM_SIZE:
                notes.append(int(note[1]))
            elif (tile := _tile(name)) is not None:
                tiles.add(tile)
            elif found := _OBJECT.fullmatch(name):
                objects.add(bytes.fromhex(found[2]))
            elif _TEMPORARY.fullmatch(name):
                temporary.append(file.shown)
            else:
                unknown.append((file.shown, "no file that a log has"))
        return cls(
            has_checkpoint=has_checkpoint,
            notes=array("Q", sorted(notes)),
            tiles=frozenset(tiles),
            objects=frozenset(objects),
            temporary=tuple(sorted(temporary)),
            unknown=tuple(sorted(unknown)),
        )

    def widest_bundle(self, index: int) -> Tile | None:
        """The widest stored entry bundle at a place, of whatever size it is."""
        widths = [tile.width for tile in self.tiles if tile.level is None and tile.index == index]
        return Tile(level=None, index=index, width=max(widths)) if widths else None


def _tile(name: str) -> Tile | None:
    try:
        return Tile.parse(name.removeprefix(ROOT))
    except MalformedError:
        return None
