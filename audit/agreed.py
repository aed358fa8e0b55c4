"""What an agreement says about its log, in the log's own terms: keys, cosigners and the quorum."""

from audit.note import VerifierKey
from audit.quorum import Cosigner, Quorum
from protocol.agreement import Agreement, SiloTerms, WitnessTerms
from protocol.keys import VerifyingKey


def log_key_of(agreement: Agreement, key: VerifyingKey) -> VerifierKey:
    """The verifier key of the agreement's log under the key that evidence vouched for."""
    return VerifierKey.of_log(agreement.log.origin, key)


def cosigner_of(agreement: Agreement, silo: SiloTerms) -> VerifierKey:
    """A silo's key as a witness: its identity key under the name `<origin>/<silo>`."""
    return VerifierKey.of_cosigner(f"{agreement.log.origin}/{silo.name}", silo.identity)


def witness_key_of(witness: WitnessTerms) -> VerifierKey:
    """A further witness's key, under the name that it has for all its logs."""
    return VerifierKey.of_cosigner(witness.key_name, witness.key)


def quorum_of(agreement: Agreement) -> Quorum:
    """The silos, one vote an owner, and how many owners it takes; the further witnesses, and how many of them."""
    log = agreement.log
    return Quorum(
        cosigners=tuple(Cosigner(owner=silo.owner, key=cosigner_of(agreement, silo)) for silo in agreement.silos),
        required=log.cosigners,
        witnesses=tuple(Cosigner(owner=witness.name, key=witness_key_of(witness)) for witness in log.witnesses),
        required_witnesses=log.required_witnesses,
    )
