"""Where a federation stands after an entry, what may follow there, and for which reasons an attempt may end.

    phase         may be followed by
    EMPTY         log.genesis
    CREATED       appliance.started
    REKEYED       appliance.started → where the log stood before, or INTERRUPTED
    IDLE          silo.admitted  silo.refused  round.opened  control.reset  log.closed  log.superseded  a start
    COLLECTING    silo.admitted  silo.refused  update.accepted  update.refused  round.committed  round.abandoned
                  a start → INTERRUPTED
    COMMITTED     silo.admitted  silo.refused  round.published  round.abandoned  a start → INTERRUPTED
    INTERRUPTED   round.abandoned(restart)  a start
    CLOSED        silo.admitted  silo.refused  log.superseded (once)  a start

A start is appliance.started, or key.rotated or log.recovered → REKEYED and then appliance.started.
"""

from dataclasses import dataclass
from enum import StrEnum

from audit.entries import (
    ApplianceStarted,
    ControlReset,
    Entry,
    KeyRotated,
    LogClosed,
    LogGenesis,
    LogRecovered,
    LogSuperseded,
    RoundAbandoned,
    RoundCommitted,
    RoundOpened,
    RoundPublished,
    SiloAdmitted,
    SiloRefused,
    UpdateAccepted,
    UpdateRefused,
)
from protocol.errors import RefusalCode


class Phase(StrEnum):
    """Where the federation stands after an entry."""

    EMPTY = "empty"
    CREATED = "created"
    REKEYED = "rekeyed"
    IDLE = "idle"
    COLLECTING = "collecting"
    COMMITTED = "committed"
    INTERRUPTED = "interrupted"
    CLOSED = "closed"


_ANYTIME = frozenset({SiloAdmitted, SiloRefused})
_START = frozenset({ApplianceStarted, KeyRotated, LogRecovered})
ALLOWED: dict[Phase, frozenset[type[Entry]]] = {
    Phase.EMPTY: frozenset({LogGenesis}),
    Phase.CREATED: frozenset({ApplianceStarted}),
    Phase.REKEYED: frozenset({ApplianceStarted}),
    Phase.IDLE: _ANYTIME | _START | {RoundOpened, ControlReset, LogClosed, LogSuperseded},
    Phase.COLLECTING: _ANYTIME | _START | {UpdateAccepted, UpdateRefused, RoundCommitted, RoundAbandoned},
    Phase.COMMITTED: _ANYTIME | _START | {RoundPublished, RoundAbandoned},
    Phase.INTERRUPTED: _START | {RoundAbandoned},
    Phase.CLOSED: _ANYTIME | _START | {LogSuperseded},
}


RESTART = "restart"
BELOW_MINIMUM_COHORT = "below-minimum-cohort"
# The sender's doing: another plaintext under the tags that were admitted. It is barred from then on.
CHANGED_AFTER_ADMISSION = "changed-after-admission"
# The store's doing: the bytes no longer have the tags that were admitted.
SPOOL_CHANGED = "spool-changed"
# The next model would not be finite: the agreement allows steps that are too long.
OVERFLOW = "overflow"

# What only the silo itself can have brought about; anything else is answered and not logged.
HELD_AGAINST_A_SILO = frozenset(
    {
        RefusalCode.UPDATE_CORRUPT,
        RefusalCode.UPDATE_STEPS,
        RefusalCode.UPDATE_NOT_FINITE,
        RefusalCode.UPDATE_TOO_LARGE,
        RefusalCode.WRONG_PARENT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended: the index of its terminal entry, and the silos whose updates it used."""

    index: int
    used: dict[str, bytes]
