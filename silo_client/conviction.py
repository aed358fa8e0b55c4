"""What a silo makes of two notes that don't fit: a fraud proof, where they convict (record 28), or nothing.

Trusts the silo's own state, which holds what vouched for the pinned log key and, in receipts, heads that other owners
cosigned. What it returns has been verified as a stranger would. Called by the witness, before it stops.
"""

from contextlib import suppress

from audit.agreed import log_key_of, quorum_of
from audit.fraud import FraudProof, NoFraudError, Prefix
from audit.note import Checkpoint
from audit.proof import Receipt
from audit.store import StoreError
from protocol.agreement import Agreement
from protocol.errors import MalformedError, SignatureError
from protocol.session import Consistency
from silo_client.state import SiloState

FILE = "fork.fraud"


def convicting(
    agreement: Agreement, state: SiloState, ours: Checkpoint, theirs: Checkpoint, consistency: Consistency | None
) -> bytes | None:
    """The fraud proof's file for two heads under the pinned key, or None where they convict nobody.

    `consistency`: the proof that came with the larger one, if one did. One that leads to its root, and to another root
    than ours at our size, convicts; between equal sizes none is needed. From a size that is a power of two a
    consistency proof holds no root of its own, and it takes the appliance's store to tell.
    """
    key = state.log_key
    voucher = None if key is None else state.voucher(key)
    if key is None or voucher is None:
        return None
    prefix = None
    if ours.size != theirs.size:
        if consistency is None or consistency.size != ours.size or not ours.size & (ours.size - 1):
            return None
        prefix = Prefix(hashes=consistency.hashes)
    log_key = log_key_of(agreement, key)
    proof = FraudProof(
        agreement=agreement.source,
        vouchers=(voucher,),
        first=_text(ours.with_lines_by([log_key])),
        second=_text(theirs.with_lines_by([log_key])),
        prefix=prefix,
        leaves=None,
        known=_cosigned(agreement, state),
    )
    with suppress(NoFraudError):
        proof.verify(agreement)
        return proof.encode_file()
    return None


def _cosigned(agreement: Agreement, state: SiloState) -> str | None:
    """The newest head among the receipts that shows whose log this is: more owners than `faulty` have cosigned it."""
    if state.log_key is None:
        return None
    quorum, log_key = quorum_of(agreement), log_key_of(agreement, state.log_key)
    keys = (log_key, *(cosigner.key for cosigner in quorum.cosigners))
    for name in reversed(state.receipts()):
        with suppress(MalformedError, SignatureError, StoreError):
            checkpoint = Receipt.parse(state.read_receipt(name)[1]).checkpoint
            checkpoint.verify(log_key)
            if len(quorum.count(checkpoint, log_key).owners) > agreement.log.faulty:
                return _text(checkpoint.with_lines_by(keys))
    return None


def _text(checkpoint: Checkpoint) -> str:
    return checkpoint.encode().decode()
