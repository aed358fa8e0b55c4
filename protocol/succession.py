"""One agreement after another (DESIGN §4): what makes a successor, and the approvals that its silos sign.

An agreement never changes in place. A successor names its predecessor's digest and the round that it goes on from, and
its initial model is that round's. Whoever continues, with the same identity key in both, approves it with that key;
together they must be a quorum of the old owners, so that nobody can carry a federation off. Pure. Called by the
enclave of the old agreement before it ends its log, by that of the new one before it begins its own, and by the audit.

1. the successor names this very predecessor
2. both are of one model, and both simulated or neither
3. the successor's log has a name of its own
4. those who continue are a quorum of the old owners
"""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.agreement import Agreement, SiloTerms
from protocol.errors import MalformedError, ProtocolError, SignatureError
from protocol.fields import decode_base64, encode_base64, format_digest
from protocol.keys import SigningKey
from protocol.record import Bytes, Count, Digest, Name, Record
from protocol.signed import open_message, sign_message, unverified_body

APPROVAL_LABEL = "strongroom/approval/v1"
_LIMIT_BYTES = 8192


class SuccessionError(ProtocolError):
    """These two agreements don't follow each other, or too few have approved; one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(Record, kind="approval", limit_bytes=4096):
    """A silo's word that `successor` may go on from round `rounds` of `predecessor`, whose model is `model`.

    `silo` is its name in the successor. What is signed is the record's bytes, under `APPROVAL_LABEL`.
    """

    silo: Name
    predecessor: Digest
    successor: Digest
    rounds: Count
    model: Digest

    def sign(self, identity: SigningKey) -> bytes:
        """The approval as a signed message (`protocol.signed`)."""
        return sign_message(identity, APPROVAL_LABEL, self.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals(Record, kind="approvals"):
    """The signed approvals of all who continue, in the successor's order: the object that both logs name."""

    approvals: tuple[Bytes, ...]


def write_approval(message: bytes) -> bytes:
    """A signed approval as a text file of one line, to be sent by mail."""
    return f"{encode_base64(message)}\n".encode()


def read_approval(data: bytes, file: str) -> bytes:
    """The signed message in such a file, not yet verified; raises `SuccessionError` naming `file`."""
    text = data[:_LIMIT_BYTES].decode("ascii", "replace")
    message = decode_base64(text.removesuffix("\n"))
    if not message or len(data) > _LIMIT_BYTES:
        raise SuccessionError(
            f"{file}: expected one line that `strongroom agreement approve` wrote, found another file"
        )
    return message


def check_successor(old: Agreement, new: Agreement) -> None:
    """Run the list above; raises `SuccessionError`."""
    predecessor = new.predecessor
    # 1
    if predecessor is None or predecessor.agreement != old.digest:
        found = "none" if predecessor is None else format_digest(predecessor.agreement)
        raise SuccessionError(
            f"successor: expected [predecessor] agreement = {format_digest(old.digest)}, found {found}"
        )
    # 2
    if new.model.layout != old.model.layout:
        raise SuccessionError(
            f"successor: expected the predecessor's layout {format_digest(old.model.layout)}, "
            f"found {format_digest(new.model.layout)}; another model is another federation"
        )
    if new.simulated is not old.simulated:
        raise SuccessionError(
            "successor: expected simulated TEEs in both agreements or in neither, found them in one; what was never "
            "protected can't be continued as if it had been"
        )
    # 3
    if new.log.origin == old.log.origin:
        raise SuccessionError(
            f"successor: expected a [log] origin of its own, found the predecessor's, {old.log.origin!r}"
        )
    # 4
    names = {silo.identity: silo.owner for silo in old.silos}
    owners = {names[silo.identity] for silo in continuing(old, new)}
    if len(owners) < old.log.cosigners:
        raise SuccessionError(
            f"successor: expected silos of at least {old.log.cosigners} of the predecessor's owners, a quorum, with "
            f"their identity keys, found {len(owners)}"
        )


def continuing(old: Agreement, new: Agreement) -> tuple[SiloTerms, ...]:
    """The successor's silos whose identity key is in both agreements, in the successor's order."""
    keys = {silo.identity for silo in old.silos}
    return tuple(silo for silo in new.silos if silo.identity in keys)


def approval_of(new: Agreement, silo: str) -> Approval:
    """What a silo signs to approve `new`, whose [predecessor] says the rest.

    Raises `SuccessionError` if it is no successor, `RefusedError` if it does not name the silo.
    """
    predecessor = new.predecessor
    if predecessor is None:
        raise SuccessionError("successor: expected a [predecessor] table, found none")
    return Approval(
        silo=new.silo(silo).name,
        predecessor=predecessor.agreement,
        successor=new.digest,
        rounds=predecessor.rounds,
        model=new.model.initial,
    )


def check_approvals(messages: Iterable[bytes], old: Agreement, new: Agreement) -> Approvals:
    """Hold signed approvals against both agreements; returns those of everybody who continues, in order.

    Raises `SuccessionError` for an approval that is malformed, unsigned, somebody else's or of something else, and if
    one is missing. Approvals may come in any order; the same one twice does no harm.
    """
    check_successor(old, new)
    found: dict[str, bytes] = {}
    for message in messages:
        found[_verified(message, old, new)] = message
    if missing := [silo.name for silo in continuing(old, new) if silo.name not in found]:
        raise SuccessionError(
            f"approvals: expected one of every silo that continues, found none of {', '.join(missing)}; "
            "each makes its own with `strongroom agreement approve`"
        )
    return Approvals(approvals=tuple(found[silo.name] for silo in continuing(old, new)))


def _verified(message: bytes, old: Agreement, new: Agreement) -> str:
    """Whose good approval it is."""
    try:
        name = Approval.parse(unverified_body(message)).silo
        silo = next((silo for silo in continuing(old, new) if silo.name == name), None)
        if silo is None:
            raise SuccessionError(f"approvals: expected those of silos that continue, found one of {name}")
        approval = Approval.parse(open_message(silo.identity, APPROVAL_LABEL, message, f"approval of {name}"))
    except (MalformedError, SignatureError) as error:
        raise SuccessionError(f"approvals: {error}") from error
    if approval != approval_of(new, name):
        raise SuccessionError(
            f"approval of {name}: expected one of {format_digest(new.digest)} after round "
            f"{new.predecessor.rounds if new.predecessor else 0}, found one of {format_digest(approval.successor)} "
            f"after round {approval.rounds}"
        )
    return name
