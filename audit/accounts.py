"""What somebody shows of a log: heads, entries with their proofs, perhaps a whole tree, and evidence for the log key.

Everything here is as it was found, and nothing is believed: `audit.compare` holds two accounts against each other, and
what it claims it proves from signed heads. A silo's state makes one too, by whoever may read it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from audit.entries import ApplianceStarted, KeyRotated, LogGenesis, LogRecovered, parse_entry
from audit.inventory import Inventory
from audit.key_claims import Claims
from audit.log_files import LogFiles
from audit.log_keys import LogKeys
from audit.merkle import HASH_BYTES
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint, VerifierKey
from audit.proof import HEADER, MAXIMUM_RECEIPT_BYTES, Receipt
from audit.resources import (
    CHECKPOINT,
    LogDamagedError,
    Readable,
    checkpoint_name,
    read_bundle,
    read_checkpoint,
    read_object,
)
from audit.store import StoreError
from audit.tiled_nodes import TiledNodes
from audit.tiles import MAXIMUM_ENTRY_BYTES, entry_bundles
from audit.vouching import Voucher
from protocol.errors import MalformedError, ProtocolError
from protocol.keys import VerifyingKey

MAXIMUM_HEADS = 2_000
_TRIED_HEADS = 8
ENTRY_SUFFIX = ".entry.json"
RECEIPT_SUFFIX = ".tlog-proof"
_KINDS = tuple(f'"{kind.KIND}"'.encode() for kind in (ApplianceStarted, KeyRotated, LogRecovered))
_LARGE_BYTES = max(MAXIMUM_NOTE_BYTES, MAXIMUM_RECEIPT_BYTES) + HASH_BYTES


class AccountError(ProtocolError):
    """What was named shows nothing of a log; one line that says what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One side of a comparison; `name` is for messages.

    `heads`: newest first, at most `MAXIMUM_HEADS`. `entries`: receipts with the bytes that they are for. `files`: where
    a whole log lies. `problems`: what kept a log key from being vouched for. `agreement`: the bytes that
    lie beside the log, if they do. `log_keys`: those that the log has had, as a silo knows or its entries claim.
    """

    name: str
    heads: tuple[Checkpoint, ...]
    entries: tuple[tuple[Receipt, bytes], ...] = ()
    files: Readable | None = None
    vouchers: tuple[Voucher, ...] = ()
    problems: tuple[str, ...] = ()
    agreement: bytes | None = None
    log_keys: LogKeys | None = None
    by_size: dict[int, Checkpoint] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_size", {head.size: head for head in reversed(self.heads)})

    def tree(self, size: int) -> TiledNodes | None:
        """The tree of that many entries, if a whole log lies here; what it says is as unverified as the rest."""
        return None if self.files is None else TiledNodes(self.files, size)

    @classmethod
    def of_log(cls, name: str, files: LogFiles) -> "Account":
        """An appliance's store, or its log directory; raises `AccountError` if there is no head in it."""
        inventory = Inventory.take(files.listed())
        heads = tuple(_heads(files, inventory))
        if not heads:
            raise AccountError(f"{name}: {CHECKPOINT}: expected a checkpoint, found none")
        vouchers: list[Voucher] = []
        problems: list[str] = []
        agreement, first = None, None
        changes: list[tuple[int, KeyRotated | LogRecovered]] = []
        try:
            for index, entry in _key_entries(files, heads):
                first = first or entry.keys.log_key
                if isinstance(entry, KeyRotated | LogRecovered):
                    changes.append((index, entry))
                    continue
                if entry.keys.log_key in [voucher.log_key for voucher in vouchers]:
                    continue
                vouchers.append(Voucher.of_entry(entry, read_object(files, entry.evidence)))
                if isinstance(entry, LogGenesis):
                    with suppress(LogDamagedError, StoreError):
                        agreement = read_object(files, entry.agreement)
        except (LogDamagedError, StoreError, MalformedError) as error:
            problems.append(f"{name}: {error}")
        claims = Claims(changes=tuple(changes), size=heads[0].size)
        return cls(
            name=name,
            heads=heads,
            files=files,
            vouchers=tuple(vouchers),
            problems=tuple(problems),
            agreement=agreement,
            log_keys=None if first is None else claims.keys(heads[0].origin, first),
        )

    @classmethod
    def of_note(cls, name: str, note: bytes) -> "Account":
        """A signed checkpoint; raises `MalformedError`."""
        return cls(name=name, heads=(Checkpoint.parse(note),))

    @classmethod
    def of_receipts(cls, name: str, receipts: tuple[tuple[Receipt, bytes | None], ...]) -> "Account":
        """Receipts, each with its entry's bytes where they are known."""
        heads = sorted((receipt.checkpoint for receipt, _ in receipts), key=lambda head: -head.size)
        entries = tuple((receipt, entry) for receipt, entry in receipts if entry is not None)
        return cls(name=name, heads=tuple(heads)[:MAXIMUM_HEADS], entries=entries)

    @classmethod
    def find(cls, path: Path, name: str) -> "Account":
        """A store, a log directory, a log in one file, a checkpoint, or a receipt with its entry beside it.

        Raises `AccountError`, `StoreError` or `MalformedError`.
        """
        if path.is_dir():
            return cls.of_log(name, LogFiles.find(path))
        data = _beginning(path)
        if data.startswith(HEADER.encode()):
            return cls.of_receipts(name, ((Receipt.parse(data), _entry_beside(path)),))
        if data[:1] == b"{":
            voucher = Voucher.parse(data)
            return cls(name=name, heads=(), vouchers=(voucher,))
        try:
            return cls.of_note(name, data)
        except MalformedError as error:
            try:
                return cls.of_log(name, LogFiles.find(path))
            except StoreError:
                raise AccountError(
                    f"{name}: expected a store, a log directory, a checkpoint, a receipt or a silo.toml, found none of "
                    f"them ({error})"
                ) from error


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGE_BYTES)
    except OSError as error:
        raise AccountError(f"{path}: expected a readable file, found {error.strerror or error}") from error


def _entry_beside(path: Path) -> bytes | None:
    """The entry's bytes, as silos keep them: NAME.entry.json beside NAME.tlog-proof."""
    beside = path.with_name(path.name.removesuffix(RECEIPT_SUFFIX) + ENTRY_SUFFIX)
    try:
        with beside.open("rb") as stream:
            entry = stream.read(MAXIMUM_ENTRY_BYTES + 1)
    except OSError:
        return None
    return entry if len(entry) <= MAXIMUM_ENTRY_BYTES else None


def _heads(files: LogFiles, inventory: Inventory) -> Iterator[Checkpoint]:
    """The newest heads that can be read, newest first."""
    names = [checkpoint_name(size) for size in reversed(inventory.notes[-MAXIMUM_HEADS:])]
    found: list[Checkpoint] = []
    for name in ([CHECKPOINT] if inventory.has_checkpoint else []) + names:
        with suppress(LogDamagedError, StoreError):
            found.append(read_checkpoint(files, name))
    yield from sorted(found, key=lambda head: -head.size)


def _key_entries(
    files: LogFiles, heads: tuple[Checkpoint, ...]
) -> Iterator[tuple[int, LogGenesis | ApplianceStarted | KeyRotated | LogRecovered]]:
    """The entries that name log keys, and whose evidence vouches for them: leaf 0 and, if the newest head is by another
    key, boots and what they begin with; each with its index.
    """
    size, data = _first_entry(files, heads)
    genesis = parse_entry(data)
    if not isinstance(genesis, LogGenesis):
        raise MalformedError("entry 0: expected log.genesis, found another kind")
    yield 0, genesis
    if _signed_by(heads[0], genesis.keys.log_key):
        return
    for bundle in entry_bundles(size):
        for index, data in enumerate(read_bundle(files, bundle, or_full=True), bundle.start):
            if any(kind in data for kind in _KINDS):
                with suppress(MalformedError):
                    entry = parse_entry(data)
                    if isinstance(entry, ApplianceStarted | KeyRotated | LogRecovered):
                        yield index, entry


def _first_entry(files: LogFiles, heads: tuple[Checkpoint, ...]) -> tuple[int, bytes]:
    """Leaf 0, and the size of the newest head whose bundles are there: whoever planted a larger one has no tiles."""
    for head in heads[:_TRIED_HEADS]:
        with suppress(LogDamagedError, StoreError, ValueError):
            return head.size, TiledNodes(files, head.size).entry(0)
    raise MalformedError("entry 0: expected log.genesis, found none to be read")


def _signed_by(head: Checkpoint, key: VerifyingKey) -> bool:
    """Whether it has a line by this key, unverified."""
    verifier = VerifierKey.of_log(head.origin, key)
    return verifier.signer in [signature.signer for signature in head.note.signatures]
