"""What an announcement must show before a silo trains on it: the log's own entries, proved and cosigned.

The announcement *is* the logged `round.opened` entry. Beside it comes what became of this silo's last update, which
decides over c_i before anything else happens. Trusts the pinned log key, the agreement and the boot that was appraised.
Pure: `verify` changes nothing; `SiloMachine` applies what it returns.

Numbered checks, repeated below:

1.  the checkpoint is of the pinned log and extends the head          log-rolled-back, log-forked
2.  enough owners and further witnesses have cosigned it              `QuorumError`
3.  the opened entry is in it                                         `ProofError`
4.  it is a round of the boot that was appraised, or the log's end    wrong-boot
5.  its terms, and round 1's model, are the agreement's                agreement-mismatch
6.  a control is named where and only where there may be one          malformed
7.  the control epoch is not older than the one we know               wrong-round
8.  our pending update's outcome is in it, and is that attempt's      wrong-round, `ProofError`
9.  (round, attempt) is newer than the last one that we sealed, and not older than the newest one that was announced
    to this process                                                   wrong-round
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from audit.entries import (
    CohortMember,
    LogClosed,
    LogSuperseded,
    RoundAbandoned,
    RoundOpened,
    RoundPublished,
    parse_entry,
)
from audit.merkle import leaf_hash, verify_inclusion
from audit.note import Checkpoint
from audit.proof import Receipt
from audit.quorum import Quorum
from protocol.agreement import Agreement, Strategy
from protocol.errors import MalformedError, RefusalCode, RefusedError, refuse
from protocol.fields import format_digest
from protocol.session import Announcement, LoggedEntry
from silo_client.state import SealedUpdate, SiloState
from silo_client.witness import Witness

End: TypeAlias = LogClosed | LogSuperseded
"""How a log ends: all rounds are published, or another agreement takes over."""


class Standing(Enum):
    """What an announcement asks of the silo."""

    TRAIN = "train"
    """A new attempt, to be trained on."""
    RESUME = "resume"
    """The attempt that the pending update was sealed for: the stored bytes are sent, and nothing else."""
    DONE = "done"
    """An attempt that this silo has sealed an update for, whose outcome it knows."""
    END = "end"
    """The federation is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the pending update, with the receipt that shows it.

    `foreign`: the round used another update in this silo's name, made before it lost its memory or by somebody else
    with its identity key. It counts as not used; the next update then names the wrong parent, and controls are reset.
    """

    used: bool
    foreign: bool
    entry: RoundPublished | RoundAbandoned
    data: bytes
    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """An announcement that passed every check. `head` is what the silo's head becomes."""

    standing: Standing
    checkpoint: Checkpoint
    head: Checkpoint
    entry: RoundOpened | End
    opened: Receipt
    outcome: Outcome | None


class MissingOutcomeError(RefusedError):
    """The announcement doesn't say what became of the pending update; whoever asks again (`Join`) should hear it."""


def verify(
    announcement: Announcement,
    *,
    agreement: Agreement,
    silo: str,
    boot_id: bytes,
    state: SiloState,
    witness: Witness,
    quorum: Quorum,
    newest: tuple[int, int] | None,
) -> Verified:
    """Run the list above; raises `RefusedError`, `SignatureError`, `MalformedError` and the log's own errors.

    `newest`: the newest (round, attempt) that was announced to this process, None before the first.
    """
    # 1
    checkpoint = Checkpoint.parse(announcement.checkpoint.encode())
    head = witness.follow(checkpoint, announcement.consistency)
    # 2
    quorum.verify(checkpoint, witness.log_keys.signer(checkpoint))
    # 3
    opened = _included(announcement.opened, checkpoint)
    entry = parse_entry(announcement.opened.entry)
    if isinstance(entry, End):
        _check_end(entry, agreement)
    elif isinstance(entry, RoundOpened):
        _check_opened(entry, announcement, agreement, boot_id, state)
    else:
        raise MalformedError(f"expected a round.opened, log.closed or log.superseded entry, found {entry.KIND}")
    # 8
    outcome, standing = None, _standing(entry, state, newest)
    if standing is not Standing.RESUME and state.pending is not None:
        outcome = _outcome(announcement.outcome, state.pending, checkpoint, silo)
    return Verified(standing=standing, checkpoint=checkpoint, head=head, entry=entry, opened=opened, outcome=outcome)


def _included(logged: LoggedEntry, checkpoint: Checkpoint) -> Receipt:
    verify_inclusion(leaf=leaf_hash(logged.entry), index=logged.index, proof=logged.hashes, head=checkpoint.head)
    return Receipt(index=logged.index, proof=logged.hashes, checkpoint=checkpoint)


def _check_end(entry: End, agreement: Agreement) -> None:
    # 4. The end needs no boot: whichever boot wrote it, the owners have cosigned it and nothing follows.
    rounds = agreement.federation.rounds
    if isinstance(entry, LogSuperseded):
        # Whoever continues has approved the successor; the audit holds the approvals against both agreements.
        if not 1 <= entry.rounds <= rounds:
            raise _agreed("rounds", f"1 to {rounds}", entry.rounds)
    elif entry.rounds != rounds:
        raise _agreed("rounds", rounds, entry.rounds)


def _check_opened(
    entry: RoundOpened, announcement: Announcement, agreement: Agreement, boot_id: bytes, state: SiloState
) -> None:
    # 4
    if entry.boot_id != boot_id:
        raise refuse(
            RefusalCode.WRONG_BOOT,
            expected=f"a round of the boot {boot_id.hex()[:16]}… that this silo appraised",
            found=f"one of boot {entry.boot_id.hex()[:16]}…",
            remedy="the appliance restarted: enrol again",
        )
    # 5
    training = agreement.training
    for name, ours, theirs in (
        ("strategy", str(training.strategy), entry.strategy),
        ("local_steps", training.local_steps, entry.local_steps),
        ("learning_rate", training.learning_rate, entry.learning_rate),
        ("server_learning_rate", training.server_learning_rate, entry.server_learning_rate),
        ("round_deadline_seconds", agreement.federation.round_deadline_seconds, entry.deadline_seconds),
    ):
        if ours != theirs:
            raise _agreed(name, ours, theirs)
    if not 1 <= entry.round <= agreement.federation.rounds or entry.attempt < 1:
        raise _agreed("rounds", f"1 to {agreement.federation.rounds}", entry.round)
    if entry.round == 1 and entry.model != agreement.model.initial:
        raise _agreed("the initial model", format_digest(agreement.model.initial), format_digest(entry.model))
    # 6
    if (entry.control is None) != (announcement.control is None) or (
        entry.control is not None and training.strategy is not Strategy.SCAFFOLD
    ):
        raise MalformedError(
            f"expected the control that the entry names ({training.strategy}), found "
            f"{'none' if announcement.control is None else 'one'}"
        )
    # 7
    if entry.control_epoch < state.control_epoch:
        raise refuse(
            RefusalCode.WRONG_ROUND,
            expected=f"control epoch {state.control_epoch} or later",
            found=str(entry.control_epoch),
            remedy="the appliance repeats an old announcement: do not train on it",
        )


def _standing(entry: RoundOpened | End, state: SiloState, newest: tuple[int, int] | None) -> Standing:
    if isinstance(entry, End):
        return Standing.END
    found, sealed, pending = (entry.round, entry.attempt), state.last_sealed, state.pending
    if pending is not None and pending.order == found and pending.boot_id == entry.boot_id:
        return Standing.RESUME
    # 9
    if sealed is not None and (found < sealed or (found == sealed and pending is not None)):
        last = f"attempt {sealed[1]} of round {sealed[0]}"
        raise refuse(
            RefusalCode.WRONG_ROUND,
            expected=f"a round after {last}, which this silo has sealed an update for",
            found=f"attempt {found[1]} of round {found[0]}",
            remedy="the appliance repeats an old round: do not train on it",
        )
    if newest is not None and found < newest:
        # Its checkpoint is one that this process has passed, and authentic: what it covers is over all the same.
        raise refuse(
            RefusalCode.WRONG_ROUND,
            expected=f"attempt {newest[1]} of round {newest[0]}, which was announced to this silo, or a later one",
            found=f"attempt {found[1]} of round {found[0]}",
            remedy="the appliance repeats an old announcement: do not train on it",
        )
    return Standing.DONE if found == sealed else Standing.TRAIN


def _outcome(logged: LoggedEntry | None, pending: SealedUpdate, checkpoint: Checkpoint, silo: str) -> Outcome:
    if logged is None:
        refusal = refuse(
            RefusalCode.WRONG_ROUND,
            expected=f"what became of this silo's update for attempt {pending.attempt} of round {pending.round}",
            found="an announcement that doesn't say",
            remedy="nothing is trained before it is known; the appliance must show the attempt's last entry",
        )
        raise MissingOutcomeError(refusal.refusal)
    receipt = _included(logged, checkpoint)
    entry = parse_entry(logged.entry)
    if not isinstance(entry, RoundPublished | RoundAbandoned) or (entry.round, entry.attempt) != pending.order:
        raise refuse(
            RefusalCode.WRONG_ROUND,
            expected=f"how attempt {pending.attempt} of round {pending.round} ended",
            found=f"a {entry.KIND} entry of another moment",
            remedy="nothing is trained before the outcome is known",
        )
    mine = [(member.upload_id, member.update) for member in _cohort(entry) if member.silo == silo]
    used = mine == [(pending.upload_id, pending.digest)]
    return Outcome(used=used, foreign=bool(mine) and not used, entry=entry, data=logged.entry, receipt=receipt)


def _cohort(entry: RoundPublished | RoundAbandoned) -> tuple[CohortMember, ...]:
    return entry.cohort if isinstance(entry, RoundPublished) else ()


def _agreed(name: str, ours: object, theirs: object) -> RefusedError:
    return refuse(
        RefusalCode.AGREEMENT_MISMATCH,
        expected=f"{name} {ours}, as agreed",
        found=str(theirs),
        remedy="the appliance departs from the agreement: do not train on it",
    )
