"""A policy file: reference values outside an agreement, for judging evidence by hand.

[[tee]]            or [[appliance.tee]], or [[silo.tee]]: as they stand in an agreement, to be pasted either way
tee = "sev-snp"
…
"""

from attestation.reference_values import ReferenceValues
from attestation.tee import Tee
from protocol.agreement_tees import MAXIMUM_TEES, read_tee
from protocol.agreement_toml import AgreementError, fields_of, read_tables, tables_of

_PARTIES = ("appliance", "silo")
_KINDS = tuple(tee for tee in Tee if tee is not Tee.NONE)


def read_policy(data: bytes, file: str) -> tuple[ReferenceValues, ...]:
    """All reference values of a policy file, at least one; raises `AgreementError` naming file and key."""
    root = fields_of(read_tables(data, file), f"{file}:")
    party = next((name for name in _PARTIES if root.has(name)), None)
    heading = "tee" if party is None else f"{party}.tee"
    holder = root if party is None else fields_of(root.take(party, "a table"), f"{file}: [{party}]")
    found = []
    for number, table in enumerate(tables_of(holder, "tee", heading, MAXIMUM_TEES), start=1):
        where = f"{file}: [[{heading}]] #{number}"
        values = read_tee(fields_of(table, where), where, _KINDS)
        if values is not None:
            found.append(values)
    holder.close()
    root.close()
    if len({values.tee.simulated for values in found}) > 1:
        raise AgreementError(f"{file}: expected simulated TEEs alone, or none, found them beside others")
    return tuple(found)
