"""`tee = "sgx"`: measurements and attributes in hexadecimal, in the order of bytes that every tool prints.

`mr_enclave` or `mr_signer` may be "any", `kss` is either a table or "none".
"""

from attestation.reference_values import KssReferenceValues, SgxReferenceValues
from attestation.tee import Tee
from protocol.agreement_toml import fields_of, toml_string
from protocol.fields import Fields
from protocol.tee_tables.dcap_platform import platform_rows, read_platform, read_terms, terms_rows
from protocol.tee_tables.lists import (
    hexadecimal_list,
    hexadecimal_list_or_any,
    hexadecimals,
    hexadecimals_or_any,
)
from protocol.tee_tables.row import Row


def rows(values: SgxReferenceValues) -> list[Row]:
    """The lines of the table but `tee`, which `read` reads back to equal values."""
    return [
        *terms_rows(values.covers, values.revocation),
        *platform_rows(values.platform),
        Row("mr_enclave", hexadecimal_list_or_any(values.mr_enclave), 'the code, or "any" that a signer signed'),
        Row("mr_signer", hexadecimal_list_or_any(values.mr_signer), 'who signed the enclave, or "any"'),
        Row("isv_prod_id", str(values.isv_prod_id), "which of the signer's products"),
        Row("minimum_isv_svn", str(values.minimum_isv_svn), "the oldest security version of that product"),
        Row("attributes", hexadecimal_list(values.attributes), "what the enclave may do, as a whole"),
        Row("xfrm", hexadecimal_list(values.xfrm), "the processor features it may use, as a whole"),
        Row("misc_select", hexadecimal_list(values.misc_select), "what is saved when it is interrupted"),
        Row("kss", _render_kss(values.kss), "who configured it: key separation and sharing"),
    ]


def read(fields: Fields, where: str, tee: Tee) -> SgxReferenceValues:
    """The keys of one table but `tee`; raises `AgreementError`, `ReferenceValuesError`."""
    covers, revocation = read_terms(fields)
    return SgxReferenceValues(
        tee=tee,
        covers=covers,
        revocation=revocation,
        platform=read_platform(fields, where),
        mr_enclave=hexadecimals_or_any(fields, where, "mr_enclave", 32),
        mr_signer=hexadecimals_or_any(fields, where, "mr_signer", 32),
        isv_prod_id=fields.integer("isv_prod_id", maximum=2**16 - 1),
        minimum_isv_svn=fields.integer("minimum_isv_svn", maximum=2**16 - 1),
        attributes=hexadecimals(fields, "attributes", 8),
        xfrm=hexadecimals(fields, "xfrm", 8),
        misc_select=hexadecimals(fields, "misc_select", 4),
        kss=_read_kss(fields, where),
    )


def _read_kss(fields: Fields, where: str) -> KssReferenceValues | None:
    expected = '"none" or a table'
    value = fields.take("kss", expected)
    if value == "none":
        return None
    if not isinstance(value, dict):
        raise fields.error("kss", expected, value)
    table = fields_of(value, f"{where} kss")
    kss = KssReferenceValues(
        config_id=table.hexadecimal("config_id", size=64),
        minimum_config_svn=table.integer("minimum_config_svn", maximum=2**16 - 1),
        isv_ext_prod_id=table.hexadecimal("isv_ext_prod_id", size=16),
        isv_family_id=table.hexadecimal("isv_family_id", size=16),
    )
    table.close()
    return kss


def _render_kss(kss: KssReferenceValues | None) -> str:
    if kss is None:
        return '"none"'
    names = ("config_id", "isv_ext_prod_id", "isv_family_id")
    digits = "".join(f"{name} = {toml_string(getattr(kss, name).hex())}, " for name in names)
    return f"{{ {digits}minimum_config_svn = {kss.minimum_config_svn} }}"
