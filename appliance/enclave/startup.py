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
"""

from dataclasses import replace

from appliance.enclave.bodies import Bodies, BodyError
from appliance.enclave.boot import Boot
from appliance.enclave.closing import Closing
from appliance.enclave.ledger import Ledger
from appliance.enclave.machine import Enclave
from appliance.enclave.ports import Ports
from appliance.enclave.rotation import rotate
from appliance.enclave.sealed_state import EnclaveState, StateError, StateVault
from appliance.enclave.succession import Successor, begin_after, end_for
from attestation.collect.errors import CollectError, NoSealingKey
from attestation.collect.platform import Platform
from audit.divergence import DivergenceError
from audit.entries import ApplianceStarted, LogGenesis, RoundAbandoned, parse_entry
from audit.key_claims import claims_in
from audit.log import LogWriter
from audit.log_files import LogFiles
from audit.phases import RESTART, Phase
from audit.replay import History
from audit.resources import holds_log, read_entries, read_first_entry
from audit.store import Store, StoreError
from protocol.agreement import Agreement
from protocol.appraisal import appraise_appliance
from protocol.errors import ProtocolError, RefusedError
from protocol.fields import format_digest
from protocol.keys import SigningKey
from protocol.layout import Layout
from protocol.sealing import BlobKind
from protocol.succession import SuccessionError


class StartRefusedError(Exception):
    """This store, agreement and layout do not go together, or the store is damaged. The message says which."""


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
    vault = StateVault(
        store=store,
        sealing_key=_sealing_key(platform, store, ports),
        agreement=agreement.digest,
        origin=agreement.log.origin,
        random=ports.random,
    )
    starter = _Starter(agreement, layout, store, platform, ports, vault, threads, predecessor, successor)
    try:
        return starter.resume(rotates=rotate_log_key) if holds_log(store) else starter.genesis()
    except (StateError, BodyError, DivergenceError) as error:
        raise StartRefusedError(f"the store is damaged, or older than its own log: {error}") from error
    except CollectError as error:
        raise StartRefusedError(f"the TEE makes no evidence: {error}") from error
    except StoreError:
        raise
    except SuccessionError as error:
        raise StartRefusedError(str(error)) from error
    except ProtocolError as error:
        raise StartRefusedError(f"the store's log does not verify: {error}") from error


def _sealing_key(platform: Platform, store: Store, ports: Ports) -> bytes:
    """The TEE's key; where it has none, one that dies with this boot, for a log that begins with it."""
    try:
        return platform.sealing_key()
    except NoSealingKey as error:
        if holds_log(store):
            raise StartRefusedError(
                f"{error}; the store's log can't be gone on with: its key was with the boot that has ended. Begin a "
                "new federation, or name a TEE with a sealing key in [[appliance.tee]]"
            ) from error
        ports.event(f"sealing state=this-boot-only because={error}")
        return ports.random(32)
    except CollectError as error:
        raise StartRefusedError(f"no key to seal the state with: {error}") from error


class _Starter:
    def __init__(
        self,
        agreement: Agreement,
        layout: Layout,
        store: Store,
        platform: Platform,
        ports: Ports,
        vault: StateVault,
        threads: int,
        predecessor: LogFiles | None,
        successor: Successor | None,
    ) -> None:
        self._agreement = agreement
        self._layout = layout
        self._store = store
        self._platform = platform
        self._ports = ports
        self._vault = vault
        self._threads = threads
        self._predecessor = predecessor
        self._successor = successor

    def genesis(self) -> Enclave:
        """A new log under a new key."""
        if self._successor is not None:
            raise SuccessionError("nothing to succeed: expected the store of a federation, found no log in it")
        log_key = SigningKey(self._ports.random(32))
        boot = self._begin(log_key)
        evidence = self._own_evidence(boot, "genesis")
        state = EnclaveState(log_seed=log_key.seed(), model=None, control=None)
        digest = self._vault.save(state)
        log = LogWriter.create(self._store, self._agreement.log.origin, log_key)
        ledger = Ledger(log=log, history=History(self._agreement), clock=self._ports.clock)
        ledger.put_object(self._agreement.source)
        ledger.put_object(self._layout.encode())
        genesis = LogGenesis(
            time=ledger.now(),
            agreement=self._agreement.digest,
            origin=self._agreement.log.origin,
            boot_id=boot.boot_id,
            keys=boot.keys,
            evidence=ledger.put_object(evidence),
            state=digest,
            predecessor=begin_after(self._agreement, self._predecessor, ledger),
        )
        ledger.stage(genesis)
        return self._started(boot, ledger, state)

    def resume(self, *, rotates: bool) -> Enclave:
        """Go on with the store's log, under a new key if it `rotates`."""
        genesis = parse_entry(read_first_entry(self._store))
        if not isinstance(genesis, LogGenesis):
            raise StartRefusedError(f"the store's log begins with {genesis.KIND}, not with log.genesis")
        if genesis.agreement != self._agreement.digest:
            raise StartRefusedError(
                f"the store belongs to agreement {format_digest(genesis.agreement)}, "
                f"this appliance was given {format_digest(self._agreement.digest)}; one store holds one agreement"
            )
        claims = claims_in(read_entries(self._store))
        if claims.unreadable:
            raise StartRefusedError(
                f"entry {claims.size} changes the log's key in a way that this version does not know: start "
                "the version that wrote it, or a later one"
            )
        keyed = claims.changes[-1][1] if claims.changes else genesis
        log_key = SigningKey(self._vault.load(keyed.state).log_seed)
        if log_key.public.raw != keyed.keys.log:
            raise StartRefusedError(f"the sealed state holds another log key than the {keyed.KIND} that names it")
        keys = claims.keys(self._agreement.log.origin, genesis.keys.log_key)
        log = LogWriter.open(self._store, self._agreement.log.origin, log_key, keys=keys)
        history = History(self._agreement)
        ledger = Ledger.replay(log=log, history=history, clock=self._ports.clock)
        if tuple(history.key_changes) != claims.changes:
            raise StartRefusedError("the store changed while it was read: is another appliance at work on it?")
        state = self._vault.load(history.state or keyed.state)
        if history.control is None:
            # A control.reset came after the state was sealed: c = 0 has no body.
            state = replace(state, control=None)
        if rotates:
            return self._rotated(self._bodies(log_key, bytes(32)), ledger, state)
        return self._started(self._begin(log_key), ledger, state)

    def _rotated(self, former: Bodies, ledger: Ledger, state: EnclaveState) -> Enclave:
        boot = self._begin(SigningKey(self._ports.random(32)))
        state = rotate(
            former=former,
            bodies=self._bodies(boot.log_key, boot.boot_id),
            boot=boot,
            state=state,
            evidence=self._own_evidence(boot, "rotation"),
            layout=self._layout,
            ledger=ledger,
            vault=self._vault,
        )
        index, enclave = ledger.history.size - 1, self._started(boot, ledger, state, new_key=boot.log_key)
        self._ports.event(f"log-key-rotated entry={index} key={boot.log_key.public}")
        return enclave

    def _begin(self, log_key: SigningKey) -> Boot:
        return Boot.begin(
            agreement=self._agreement.digest,
            origin=self._agreement.log.origin,
            log_key=log_key,
            platform=self._platform,
            random=self._ports.random,
            now=self._ports.clock(),
        )

    def _own_evidence(self, boot: Boot, purpose: str) -> bytes:
        """Evidence for the log, if the agreement accepts it; raises `StartRefusedError`, `CollectError`.

        No defence: silos and auditors judge it again. But a log whose first entry nobody can believe is of no use.
        """
        evidence, now = boot.unattended_evidence(purpose).encode(), self._ports.clock()
        try:
            appraise_appliance(evidence, self._agreement, boot.unattended_report_data(purpose), now)
        except RefusedError as error:
            raise StartRefusedError(
                f"this machine's evidence is not what the agreement accepts: {error.refusal.found}"
            ) from error
        return evidence

    def _bodies(self, log_key: SigningKey, boot_id: bytes) -> Bodies:
        return Bodies(
            store=self._store,
            layout=self._layout,
            agreement=self._agreement.digest,
            origin=self._agreement.log.origin,
            boot_id=boot_id,
            log_key=log_key,
            random=self._ports.random,
        )

    def _started(
        self, boot: Boot, ledger: Ledger, state: EnclaveState, *, new_key: SigningKey | None = None
    ) -> Enclave:
        """The boot's entries in one batch, with which the log passes to a `new_key`, if there is one."""
        bodies = self._bodies(boot.log_key, boot.boot_id)
        for kind, body in ((BlobKind.MODEL, state.model), (BlobKind.CONTROL, state.control)):
            if body is not None:
                bodies.open(kind, body)
        ledger.stage(
            ApplianceStarted(
                time=ledger.now(),
                agreement=self._agreement.digest,
                boot_id=boot.boot_id,
                keys=boot.keys,
                evidence=ledger.put_object(self._own_evidence(boot, "boot")),
            )
        )
        history = ledger.history
        if history.phase is Phase.INTERRUPTED:
            ledger.stage(
                RoundAbandoned(
                    time=ledger.now(), round=history.round, attempt=history.attempt, reason=RESTART, silo=None
                )
            )
        if self._successor is not None:
            end_for(self._successor, self._agreement, boot.boot_id, ledger)
        ledger.flush(successor=new_key)
        closing = Closing(
            agreement=self._agreement,
            layout=self._layout,
            bodies=bodies,
            vault=self._vault,
            ledger=ledger,
            threads=self._threads,
        )
        closing.forget(history, state)
        return Enclave(
            agreement=self._agreement,
            layout=self._layout,
            boot=boot,
            ledger=ledger,
            bodies=bodies,
            closing=closing,
            state=state,
            ports=self._ports,
        )
