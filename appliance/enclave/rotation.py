"""A start under a new log key: the bodies and the sealed state for it, and the entry that hands over to it.

Everything is durable before the batch that begins with the entry, and named by nothing else: stopped before, the next
start goes on under the former key and deletes the rest; stopped after, under the new one. Called by
`appliance.enclave.startup`, which has verified the store under the former key.
"""

from dataclasses import replace

from appliance.enclave.bodies import Bodies
from appliance.enclave.boot import Boot
from appliance.enclave.ledger import Ledger
from appliance.enclave.reseal import reseal
from appliance.enclave.sealed_state import BodySecret, EnclaveState, StateVault
from audit.entries import KeyRotated
from protocol.layout import Layout
from protocol.sealing import BlobKind


def rotate(
    *,
    former: Bodies,
    bodies: Bodies,
    boot: Boot,
    state: EnclaveState,
    evidence: bytes,
    layout: Layout,
    ledger: Ledger,
    vault: StateVault,
) -> EnclaveState:
    """Seal everything again for `boot`, whose log key is the new one, and stage its `key.rotated`.

    `former` opens what the former key has signed; `evidence` is the boot's (purpose "rotation"). Returns the new state.
    Raises `BodyError`, or `RefusedError` (wrong-model) if a body is not the one that the log names.
    """
    previous = ledger.history.log_key
    if previous is None:
        raise ValueError("there is no log whose key could be rotated")
    state = replace(
        state,
        log_seed=boot.log_key.seed(),
        model=_again(BlobKind.MODEL, state.model, former, bodies, layout),
        control=_again(BlobKind.CONTROL, state.control, former, bodies, layout),
    )
    ledger.stage(
        KeyRotated(
            time=ledger.now(),
            agreement=boot.agreement,
            boot_id=boot.boot_id,
            keys=boot.keys,
            evidence=ledger.put_object(evidence),
            previous=previous,
            state=vault.save(state),
        )
    )
    return state


def _again(
    kind: BlobKind, body: BodySecret | None, former: Bodies, bodies: Bodies, layout: Layout
) -> BodySecret | None:
    """The same body under a fresh content key, signed with the new log key: round, base and metrics are the same."""
    if body is None:
        return None
    sealed = former.open(kind, body)
    header = sealed.reader.header
    metadata = sealed.reader.open_metadata(sealed.content_key)
    with bodies.create(kind, round_number=header.round, base=header.base_model, metadata=metadata) as new:
        reseal(sealed, layout, new.writer)
        return new.finish(sealed.content)
