"""Two agreements after each other, with what the tests need to go from one federation to the next."""

from collections.abc import Iterable

from memory_federation import MemoryFederation, signing_key

from appliance.enclave.succession import Successor
from protocol.agreement import Agreement
from protocol.succession import approval_of

OLD_ORIGIN, NEW_ORIGIN = "strongroom.example/digits", "strongroom.example/digits-2"


def successor_text(old: Agreement, *, rounds: int, model: bytes, replace: dict[str, str] | None = None) -> str:
    """The old text with a [predecessor], the model that it goes on from, and a log name of its own."""
    text = old.source.decode()
    changes = {
        f'initial = "sha256:{old.model.initial.hex()}"': f'initial = "sha256:{model.hex()}"',
        OLD_ORIGIN: NEW_ORIGIN,
        "[model]": f'[predecessor]\nagreement = "sha256:{old.digest.hex()}"\nrounds = {rounds}\n\n[model]',
        **(replace or {}),
    }
    for before, after in changes.items():
        if before not in text:
            raise ValueError(f"the agreement has no {before!r}")
        text = text.replace(before, after)
    return text


def successor_of(federation: MemoryFederation, *, replace: dict[str, str] | None = None) -> Agreement:
    """A successor that goes on from what a federation has published."""
    history = federation.enclave._ledger.history
    text = successor_text(federation.agreement, rounds=history.published_rounds, model=history.model, replace=replace)
    return Agreement.parse(text.encode(), "federation.toml")


def approvals(new: Agreement, silos: Iterable[str]) -> tuple[bytes, ...]:
    """Those of these silos, signed by their identity keys."""
    return tuple(approval_of(new, silo).sign(signing_key(silo)) for silo in silos)


def handover(new: Agreement, silos: Iterable[str] = ("silo-0", "silo-1", "silo-2", "silo-3")) -> Successor:
    return Successor(agreement=new, approvals=approvals(new, silos))


def ended(federation: MemoryFederation, new: Agreement, silos: Iterable[str] | None = None) -> None:
    """End a federation for its successor: a start, enrolments, cosignatures, the last model to everybody."""
    names = silos if silos is not None else [silo.name for silo in federation.agreement.silos]
    federation.boot(successor=handover(new, names))
    federation.enrol_all()
    federation.run()
