"""What the auditor names as one side of a comparison: a log, a note, a receipt, or a silo by its silo.toml."""

from dataclasses import replace
from pathlib import Path

from audit.accounts import Account
from audit.proof import Receipt
from audit.store import DirectoryStore
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from protocol.keys import VerifyingKey
from silo_client.config import SiloConfig
from silo_client.state import SiloState
from strongroom.commands.audit.files import read
from strongroom.commands.failure import Failure


def account_at(path: Path) -> Account:
    """One side; raises `Failure` or what the layers below raise on purpose."""
    name = printable(str(path))
    if path.suffix == ".toml":
        return _silo(path, name)
    try:
        return Account.find(path, name)
    except MalformedError as error:
        raise Failure(f"{name}: {printable(str(error))}") from error


def _silo(path: Path, name: str) -> Account:
    config = SiloConfig.load(path)
    agreement = Agreement.parse(read(config.agreement), config.agreement.name)
    if not config.state.is_dir():
        raise Failure(f"{name}: expected the state of {config.name} in {config.state}, found none")
    state = SiloState.read_only(DirectoryStore(config.state), agreement=agreement.digest, silo=config.name)
    receipts = [(Receipt.parse(proof), entry) for entry, proof in map(state.read_receipt, state.receipts())]
    account = Account.of_receipts(name, tuple(receipts))
    heads = account.heads if state.head is None else (state.head, *account.heads)
    keys = state.log_keys(agreement.log.origin)
    known = () if keys is None else tuple(state.voucher(VerifyingKey(item.key.public)) for item in keys.in_force)
    return replace(
        account,
        heads=tuple(sorted(heads, key=lambda head: -head.size)),
        vouchers=tuple(voucher for voucher in known if voucher is not None),
        log_keys=keys,
        agreement=agreement.source,
    )
