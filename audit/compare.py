"""Two accounts of one log: the one extends the other, which is proved, or they contradict, which makes a fraud proof.

Pure but for reading what the accounts were found in. Trusts the reader's agreement and nothing else: a head counts once
evidence vouches for the key that signed it; "consistent" means that a consistency proof between two such heads was
verified; and a fraud proof is handed out only after `FraudProof.verify` has accepted it. What is neither is said to be
neither, with what would be needed to tell.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from audit.accounts import Account
from audit.agreed import log_key_of, quorum_of
from audit.fraud import Fraud, FraudProof, Leaf, Leaves, NoFraudError, Prefix
from audit.merkle import ProofError, inclusion_proof, leaf_hash, prefix_proof, prefix_root, verify_inclusion
from audit.note import Checkpoint, VerifierKey
from audit.proof import Receipt
from audit.resources import LogDamagedError
from audit.store import StoreError
from audit.vouching import NotVouchedError, Voucher
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import SignatureError


class Relation(Enum):
    """How two accounts stand to each other."""

    CONSISTENT = "consistent"
    CONTRADICTION = "contradiction"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The answer in one sentence. `proof` and `fraud` are there where a contradiction convicts."""

    relation: Relation
    sentence: str
    sizes: tuple[int, int] | None = None
    proof: FraudProof | None = None
    fraud: Fraud | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """An authentic head of one account, with no line but the log's and its cosigners'."""

    account: Account
    checkpoint: Checkpoint
    keys: frozenset[bytes]
    owners: frozenset[str]

    @property
    def size(self) -> int:
        return self.checkpoint.size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contradicting:
    first: _Head
    second: _Head
    prefix: Prefix | None = None
    leaves: Leaves | None = None


def compare(one: Account, other: Account, agreement: Agreement, *, further: Sequence[Account] = ()) -> Comparison:
    """Hold two accounts against each other.

    `further`: accounts of anybody's that may have what these two lack: evidence for a log key, a tree to take hashes
    from, heads with cosignatures.
    """
    return _Comparing(one, other, agreement, further).run()


class _Comparing:
    def __init__(self, one: Account, other: Account, agreement: Agreement, further: Sequence[Account]) -> None:
        self._accounts = (one, other)
        self._further = further
        self._agreement = agreement
        self._quorum = quorum_of(agreement)
        self._cosigners = [cosigner.key for cosigner in self._quorum.cosigners]
        everybody = (one, other, *further)
        self._problems = [problem for account in everybody for problem in account.problems]
        self._vouchers: dict[bytes, Voucher] = {}
        for account in everybody:
            for voucher in account.vouchers:
                self._believe(voucher)
        self._keys = [log_key_of(agreement, voucher.log_key) for voucher in self._vouchers.values()]

    def run(self) -> Comparison:
        if not self._vouchers:
            why = f" ({printable(self._problems[0])})" if self._problems else ""
            return _unknown(f"nothing vouches for a log key: name a store, or a silo, that has the evidence{why}")
        chosen = [list(self._chosen(account)) for account in self._accounts]
        for account, heads in zip(self._accounts, chosen, strict=True):
            if not heads:
                return _unknown(
                    f"{account.name}: expected a head of this agreement's log, signed by a key that evidence vouches "
                    "for, found none"
                )
        for account in self._accounts:
            for receipt, entry in account.entries:
                try:
                    _included(Leaf(entry=entry, hashes=receipt.proof), receipt.index, receipt.checkpoint)
                except ProofError as error:
                    return _unknown(f"{account.name}: the entry is not the one that its receipt is for ({error})")
        shown = [head for heads in chosen for head in heads]
        shown += [head for account in self._further for head in self._chosen(account)]
        convicted = self._convict(self._contradictions(*chosen), shown)
        return convicted or self._related(chosen[0][0], chosen[1][0])

    def _believe(self, voucher: Voucher) -> None:
        if voucher.log_key.raw in self._vouchers:
            return
        try:
            self._vouchers[voucher.appraise(self._agreement).raw] = voucher
        except NotVouchedError as error:
            self._problems.append(str(error))

    # Heads

    def _chosen(self, account: Account) -> Iterator[_Head]:
        """The newest head; then the newest of each key, and the newest with enough cosigners to say whose log it is.

        If any two heads of a key contradict each other, its newest on either side do, unless a tree contradicts itself.
        """
        wanted: list[set[bytes]] = [{key.public} for key in self._keys]
        votes = [self._agreement.log.faulty + 1, self._quorum.required]
        first = True
        for checkpoint in account.heads:
            claimed = self._claimed_keys(checkpoint)
            enough = [number for number in votes if self._claimed_votes(checkpoint) >= number]
            if not (first or enough or any(keys & claimed for keys in wanted)):
                continue
            head = self._authentic(account, checkpoint)
            if head is None:
                continue
            first = False
            wanted = [keys for keys in wanted if not keys & head.keys]
            votes = [number for number in votes if len(head.owners) < number]
            yield head
            if not wanted and not votes:
                return

    def _authentic(self, account: Account, checkpoint: Checkpoint) -> _Head | None:
        checkpoint = checkpoint.with_lines_by((*self._keys, *self._cosigners))
        if checkpoint.origin != self._agreement.log.origin:
            return None
        try:
            signed = checkpoint.note.verify(self._keys)
            votes = self._quorum.count(checkpoint, self._keys[0]).owners
        except SignatureError:
            return None
        return _Head(
            account=account,
            checkpoint=checkpoint,
            keys=frozenset(verified.key.public for verified in signed),
            owners=frozenset(vote.owner for vote in votes),
        )

    def _claimed_keys(self, checkpoint: Checkpoint) -> set[bytes]:
        signers = {line.signer for line in checkpoint.note.signatures}
        return {key.public for key in self._keys if key.signer in signers}

    def _claimed_votes(self, checkpoint: Checkpoint) -> int:
        signers = {line.signer for line in checkpoint.note.signatures}
        return len({cosigner.owner for cosigner in self._quorum.cosigners if cosigner.key.signer in signers})

    # Contradictions

    def _contradictions(self, ours: list[_Head], theirs: list[_Head]) -> Iterator[_Contradicting]:
        """The newest first, and all that there are only if the reader goes on."""
        one, other = self._accounts
        for ours_head in ours:
            for theirs_head in theirs:
                first, second = sorted((ours_head, theirs_head), key=lambda head: head.size)
                leaves = None if first.keys & second.keys else _first_leaves(first, second)
                if leaves is not None:
                    yield _Contradicting(first=first, second=second, leaves=leaves)
                if first.size == second.size and first.checkpoint.root != second.checkpoint.root:
                    yield _Contradicting(first=first, second=second)
                hashes = _prefix(first, second, self._further)
                if hashes is not None and prefix_root(first.size, second.checkpoint.head, hashes) != (
                    first.checkpoint.root
                ):
                    yield _Contradicting(first=first, second=second, prefix=Prefix(hashes=hashes))
        for size in sorted(one.by_size.keys() & other.by_size.keys(), reverse=True):
            if one.by_size[size].root == other.by_size[size].root:
                continue
            pair = [self._authentic(account, account.by_size[size]) for account in self._accounts]
            if pair[0] is not None and pair[1] is not None:
                yield _Contradicting(first=pair[0], second=pair[1])
        for receipt, entry in one.entries:
            yield from self._entries(receipt, entry, one, other, theirs)
        for receipt, entry in other.entries:
            yield from self._entries(receipt, entry, other, one, ours)

    def _entries(
        self, receipt: Receipt, entry: bytes, account: Account, against: Account, heads: list[_Head]
    ) -> Iterator[_Contradicting]:
        """Another entry at the same index: in the other side's tree, or in a receipt of its."""
        shown = _Shown(receipt.checkpoint, Leaf(entry=entry, hashes=receipt.proof))
        others: list[_Shown] = [
            _Shown(theirs.checkpoint, Leaf(entry=data, hashes=theirs.proof))
            for theirs, data in against.entries
            if theirs.index == receipt.index and data != entry
        ]
        for head in heads[:1]:
            leaf = _leaf(head, receipt.index)
            if leaf is not None and leaf.entry != entry:
                others.append(_Shown(head.checkpoint, leaf))
        for other in others:
            first, second = sorted((shown, other), key=lambda item: item.head.size)
            authentic = [self._authentic(account if item is shown else against, item.head) for item in (first, second)]
            if authentic[0] is not None and authentic[1] is not None:
                leaves = Leaves(index=receipt.index, first=first.leaf, second=second.leaf)
                yield _Contradicting(first=authentic[0], second=authentic[1], leaves=leaves)

    def _convict(self, found: Iterable[_Contradicting], heads: list[_Head]) -> Comparison | None:
        """The best proof: one that shows whose log it is, else any; else why it convicts nobody. None if none is."""
        best: tuple[FraudProof, Fraud] | None = None
        nobody: Comparison | None = None
        for each in found:
            proof = self._proof(each, heads)
            try:
                fraud = proof.verify(self._agreement)
            except NoFraudError as error:
                nobody = nobody or _convicts_nobody(each, str(error))
                continue
            best = best if best is not None and not fraud.identified else (proof, fraud)
            if fraud.identified:
                break
        if best is None:
            return nobody
        return Comparison(
            relation=Relation.CONTRADICTION,
            sentence=best[1].sentence,
            sizes=best[1].sizes,
            proof=best[0],
            fraud=best[1],
        )

    def _proof(self, found: _Contradicting, heads: list[_Head]) -> FraudProof:
        shared = found.first.keys & found.second.keys
        keys = [key for key in self._keys if key.public in shared][:1]
        known = None
        if keys:
            first, second = (self._of(keys, head) for head in (found.first, found.second))
            if len(found.first.owners | found.second.owners) <= self._agreement.log.faulty:
                same = [head for head in heads if keys[0].public in head.keys]
                most = max(same, key=lambda head: len(head.owners), default=None)
                if most is not None and most.owners:
                    known = _text(self._of(keys, most))
        else:
            first, second = found.first.checkpoint, found.second.checkpoint
            keys = [key for key in self._keys if key.public in found.first.keys | found.second.keys]
        return FraudProof(
            agreement=self._agreement.source,
            vouchers=tuple(self._vouchers[key.public] for key in keys),
            first=_text(first),
            second=_text(second),
            prefix=found.prefix,
            leaves=found.leaves,
            known=known,
        )

    def _of(self, keys: list[VerifierKey], head: _Head) -> Checkpoint:
        """Without the lines of log keys that don't matter."""
        return head.checkpoint.with_lines_by((*keys, *self._cosigners))

    # No contradiction

    def _related(self, one: _Head, other: _Head) -> Comparison:
        smaller, larger = sorted((one, other), key=lambda head: head.size)
        sizes = (smaller.size, larger.size)
        if smaller.size == larger.size:
            sentence = f"{one.account.name} and {other.account.name} have the same head of {one.size} entries"
            return Comparison(relation=Relation.CONSISTENT, sentence=sentence, sizes=sizes)
        if _prefix(smaller, larger, self._further) is None:
            return _unknown(
                f"{larger.account.name} has a head of {larger.size} entries and {smaller.account.name} one of "
                f"{smaller.size}, which is no contradiction by itself; to tell needs the log of {larger.size} entries "
                "(a store, or a copy of its log directory) and undamaged tiles in it"
            )
        more = larger.size - smaller.size
        sentence = f"{larger.account.name} extends {smaller.account.name} by {more} entries, proved"
        return Comparison(relation=Relation.CONSISTENT, sentence=sentence, sizes=sizes)


@dataclass(frozen=True, slots=True)
class _Shown:
    """An entry under a head."""

    head: Checkpoint
    leaf: Leaf


def _prefix(first: _Head, second: _Head, further: Sequence[Account]) -> tuple[bytes, ...] | None:
    """The hashes from one head to a larger one, out of any tree from which they lead there."""
    if not 0 < first.size < second.size:
        return None
    for account in (second.account, first.account, *further):
        tree = account.tree(second.size)
        if tree is None:
            continue
        try:
            hashes = prefix_proof(tree, first.size, second.size)
            prefix_root(first.size, second.checkpoint.head, hashes)
        except (ProofError, LogDamagedError, StoreError):
            continue
        return hashes
    return None


def _first_leaves(first: _Head, second: _Head) -> Leaves | None:
    """Both first entries, if they are to be had and differ."""
    one, other = _leaf(first, 0), _leaf(second, 0)
    if one is None or other is None or one.entry == other.entry:
        return None
    return Leaves(index=0, first=one, second=other)


def _leaf(head: _Head, index: int) -> Leaf | None:
    """An entry out of the head's own tree, once it is shown to be under the head."""
    tree = head.account.tree(head.size)
    if tree is None or not index < head.size:
        return None
    try:
        leaf = Leaf(entry=tree.entry(index), hashes=inclusion_proof(tree, index, head.size))
        _included(leaf, index, head.checkpoint)
    except (ProofError, LogDamagedError, StoreError):
        return None
    return leaf


def _included(leaf: Leaf, index: int, checkpoint: Checkpoint) -> None:
    verify_inclusion(leaf=leaf_hash(leaf.entry), index=index, proof=leaf.hashes, head=checkpoint.head)


def _text(checkpoint: Checkpoint) -> str:
    return checkpoint.encode().decode()


def _convicts_nobody(found: _Contradicting, why: str) -> Comparison:
    first, second = found.first, found.second
    sentence = (
        f"{first.account.name} ({first.size} entries) and {second.account.name} ({second.size} entries) are two "
        f"histories; this convicts nobody: {why}"
    )
    return Comparison(relation=Relation.CONTRADICTION, sentence=sentence, sizes=(first.size, second.size))


def _unknown(sentence: str) -> Comparison:
    return Comparison(relation=Relation.UNKNOWN, sentence=sentence)
