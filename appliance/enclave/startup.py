"""Starting the enclave: from nothing, or from a store that holds a log.

A store is believed only as far as it authenticates itself: the newest entry that names a log key names the sealed state
that holds it, the log verifies under that key and its predecessors, its entries pass the transition table, the newest
state that they name opens, and the bodies that it names are there. Whether the store is the *newest* one can't be known
here; the silos know (DESIGN §8).

What a crash leaves, by the last write that was durable, and what the next start does:

    genesis state            a file that nothing names; there is no log: genesis again, under another key
    genesis and started      the federation goes on
    update.accepted          the attempt is abandoned ("restart"), silos train for the next
    round.committed          the same; the aggregate, if any, was never released
    new bodies, new state    the same; files that nothing names are deleted
    round.published          the round stands; the next one is opened once the quorum cosigns this boot
    bodies and state of      files that nothing names; the former log key goes on, and the operator may ask again
        a rotating start
    key.rotated, started     the new log key goes on, whether or not the former process came to say so
    state of a recovery      a file that nothing names; the log is without its key as before, and recovered again
    log.recovered, started   the new log key goes on, if the TEE kept the state that holds it
"""

from collections.abc import Iterator
from contextlib import contextmanager

from appliance.enclave.bodies import BodyError
from appliance.enclave.ledger import LedgerFailure
from appliance.enclave.machine import Enclave
from appliance.enclave.ports import Ports
from appliance.enclave.recovering import Recovering
from appliance.enclave.sealed_state import StateError
from appliance.enclave.starter import Starter, StartRefusedError
from appliance.enclave.succession import Successor
from attestation.collect.errors import CollectError, NoSealingKey
from attestation.collect.platform import Platform
from audit.divergence import DivergenceError
from audit.log_files import LogFiles
from audit.resources import holds_log
from audit.store import Store, StoreError
from protocol.agreement import Agreement
from protocol.errors import ProtocolError
from protocol.fields import format_digest
from protocol.layout import Layout
from protocol.succession import SuccessionError

__all__ = ["StartRefusedError", "recover", "start"]

_RECOVER = "start with --recover, and let the silos authorise a new key (`strongroom silo recover`)"


def start(
    *,
    agreement: Agreement,
    layout: Layout,
    store: Store,
    platform: Platform,
    ports: Ports,
    threads: int = 1,
    predecessor: LogFiles | None = None,
    successor: Successor | None = None,
    rotate_log_key: bool = False,
) -> Enclave:
    """Boot an enclave. Raises `StartRefusedError`; `StoreError` if the store can't be written.

    `predecessor`: the log of the agreement that this one succeeds, for its genesis. `successor`: end this log.
    `rotate_log_key`: a log that exists goes on under a new key.
    """
    _check_parts(agreement, layout, platform)
    with _refusing():
        key = _sealing_key(platform, store, ports, recovers=False)
        starter = Starter(agreement, layout, store, platform, ports, key, threads, predecessor, successor)
        try:
            return starter.resume(rotates=rotate_log_key) if holds_log(store) else starter.genesis()
        except (StateError, BodyError) as error:
            raise StartRefusedError(
                f"the store is damaged, or older than its own log: {error}. If what is missing is lost, {_RECOVER}"
            ) from error


def recover(
    *, agreement: Agreement, layout: Layout, store: Store, platform: Platform, ports: Ports, threads: int = 1
) -> Enclave | Recovering:
    """Boot on a store whose log key or model is lost: it waits for the silos' grants; where nothing is lost, boot.

    Raises as `start` does.
    """
    _check_parts(agreement, layout, platform)
    if not holds_log(store):
        raise StartRefusedError(
            "--recover: expected a store that holds the log whose key is lost, found one without a log; copy the log "
            "there first (its folder log/ is public: silos and auditors may have it)"
        )
    with _refusing():
        key = _sealing_key(platform, store, ports, recovers=True)
        return Starter(agreement, layout, store, platform, ports, key, threads).recover()


def _check_parts(agreement: Agreement, layout: Layout, platform: Platform) -> None:
    if layout.digest != agreement.model.layout:
        raise StartRefusedError(
            f"layout.json: expected {format_digest(agreement.model.layout)}, as the agreement says, "
            f"found {format_digest(layout.digest)}; use the layout that was made with the agreement"
        )
    accepted = {values.tee for values in agreement.appliance}
    if platform.tee not in accepted:
        raise StartRefusedError(
            f"TEE: expected one of {', '.join(sorted(accepted))}, as the agreement says, found {platform.tee}"
        )


@contextmanager
def _refusing() -> Iterator[None]:
    """Say what is wrong with a store or a TEE in the start's own error."""
    try:
        yield
    except DivergenceError as error:
        raise StartRefusedError(f"the store is damaged, or older than its own log: {error}") from error
    except CollectError as error:
        raise StartRefusedError(f"the TEE makes no evidence: {error}") from error
    except LedgerFailure as error:
        raise StartRefusedError(f"the store can't be written: {error}") from error
    except StoreError:
        raise
    except SuccessionError as error:
        raise StartRefusedError(str(error)) from error
    except ProtocolError as error:
        raise StartRefusedError(f"the store's log does not verify: {error}") from error


def _sealing_key(platform: Platform, store: Store, ports: Ports, *, recovers: bool) -> bytes:
    """The TEE's key; where it has none, one that dies with this boot, for a log key that this boot makes."""
    try:
        return platform.sealing_key()
    except NoSealingKey as error:
        if holds_log(store) and not recovers:
            raise StartRefusedError(
                f"{error}; the store's log can't be gone on with: its key was with the boot that has ended. To go on, "
                f"{_RECOVER}"
            ) from error
        ports.event(f"sealing state=this-boot-only because={error}")
        return ports.random(32)
    except CollectError as error:
        raise StartRefusedError(f"no key to seal the state with: {error}") from error
