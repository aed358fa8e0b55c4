"""The `[[appliance.tee]]` and `[[silo.tee]]` tables: reference values for evidence, read and written.

Every field of `attestation`'s reference values stands in the agreement under its own name; there are no defaults. How
each kind of evidence is written down is in `protocol.tee_tables`.
"""

from collections.abc import Sequence

from attestation.errors import ReferenceValuesError
from attestation.reference_values import (
    ConfidentialSpaceReferenceValues,
    MaaReferenceValues,
    NitroReferenceValues,
    ReferenceValues,
    SgxReferenceValues,
    TdxReferenceValues,
)
from attestation.tee import Tee
from protocol.agreement_toml import AgreementError, toml_string
from protocol.fields import Fields
from protocol.tee_tables import azure_maa, confidential_space, nitro, sgx, snp, tdx
from protocol.tee_tables.row import Row

MAXIMUM_TEES = 64


def read_tee(fields: Fields, where: str, allowed: tuple[Tee, ...]) -> ReferenceValues | None:
    """One tee table; None stands for `tee = "none"`. Raises `AgreementError` naming `where` and the key."""
    tee = Tee(fields.choice("tee", allowed))
    if tee is Tee.NONE:
        fields.close()
        return None
    try:
        values = _read(fields, where, tee)
    except ReferenceValuesError as error:
        raise AgreementError(
            f"{where} {error.field}: expected {error.expected}, found {error.found}".replace("\n", " ")
        ) from error
    fields.close()
    return values


def render_tee(values: ReferenceValues | None, table: str, *, explained: bool = False) -> str:
    """The TOML of one tee table under the heading `[[table]]`: what `read_tee` reads back to equal values.

    `explained` puts a comment over each line.
    """
    tee = Tee.NONE if values is None else values.tee
    rows = [Row("tee", toml_string(tee), "the kind of evidence"), *([] if values is None else _rows(values))]
    lines = [f"[[{table}]]"]
    for row in rows:
        if explained:
            lines.append(f"# {row.meaning}")
        lines.append(f"{row.key} = {row.value}")
    return "\n".join([*lines, ""])


def _read(fields: Fields, where: str, tee: Tee) -> ReferenceValues:
    if tee is Tee.NITRO:
        return nitro.read(fields, where, tee)
    if tee is Tee.CONFIDENTIAL_SPACE:
        return confidential_space.read(fields, where, tee)
    if tee is Tee.AZURE_MAA:
        return azure_maa.read(fields, where, tee)
    if tee is Tee.TDX:
        return tdx.read(fields, where, tee)
    if tee is Tee.SGX:
        return sgx.read(fields, where, tee)
    return snp.read(fields, where, tee)


def _rows(values: ReferenceValues) -> Sequence[Row]:
    if isinstance(values, NitroReferenceValues):
        return nitro.rows(values)
    if isinstance(values, ConfidentialSpaceReferenceValues):
        return confidential_space.rows(values)
    if isinstance(values, MaaReferenceValues):
        return azure_maa.rows(values)
    if isinstance(values, TdxReferenceValues):
        return tdx.rows(values)
    if isinstance(values, SgxReferenceValues):
        return sgx.rows(values)
    return snp.rows(values)
