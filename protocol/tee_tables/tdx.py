"""`tee = "tdx"`: measurements and attributes in hexadecimal, in the order of bytes that every tool prints."""

from attestation.reference_values import TdxReferenceValues
from attestation.tee import Tee
from protocol.agreement_toml import toml_string
from protocol.fields import Fields
from protocol.tee_tables.dcap_platform import platform_rows, read_platform, read_terms, terms_rows
from protocol.tee_tables.lists import (
    hexadecimal_list,
    hexadecimal_list_or_any,
    hexadecimals,
    hexadecimals_or_any,
)
from protocol.tee_tables.row import Row


def rows(values: TdxReferenceValues) -> list[Row]:
    """The lines of the table but `tee`, which `read` reads back to equal values."""
    return [
        *terms_rows(values.covers, values.revocation),
        *platform_rows(values.platform),
        Row("td_attributes", hexadecimal_list(values.td_attributes), "what the host may do to it, as a whole"),
        Row("xfam", hexadecimal_list(values.xfam), "the processor features it may use, as a whole"),
        Row("mr_seam", hexadecimal_list_or_any(values.mr_seam), 'TDX modules, or "any" that Intel lists'),
        Row("mr_td", hexadecimal_list(values.mr_td), "the memory it was launched with: its firmware"),
        Row("rtmr0", hexadecimal_list_or_any(values.rtmr0), 'how the firmware was configured, or "any"'),
        Row("rtmr1", hexadecimal_list_or_any(values.rtmr1), 'what the firmware loaded: boot loader, kernel, or "any"'),
        Row("rtmr2", hexadecimal_list_or_any(values.rtmr2), 'kernel command line and initrd, or "any"'),
        Row("rtmr3", hexadecimal_list_or_any(values.rtmr3), 'what was measured while it ran, or "any"'),
        Row("mr_config_id", toml_string(values.mr_config_id.hex()), "what the host committed to; zero for nothing"),
        Row("mr_owner", toml_string(values.mr_owner.hex()), "the owner that the host named; zero for none"),
        Row("mr_owner_config", toml_string(values.mr_owner_config.hex()), "the owner's configuration; zero for none"),
        Row("mr_service_td", toml_string(values.mr_service_td.hex()), "service TDs bound to it; zero for none"),
    ]


def read(fields: Fields, where: str, tee: Tee) -> TdxReferenceValues:
    """The keys of one table but `tee`; raises `AgreementError`, `ReferenceValuesError`."""
    covers, revocation = read_terms(fields)
    return TdxReferenceValues(
        tee=tee,
        covers=covers,
        revocation=revocation,
        platform=read_platform(fields, where),
        td_attributes=hexadecimals(fields, "td_attributes", 8),
        xfam=hexadecimals(fields, "xfam", 8),
        mr_seam=hexadecimals_or_any(fields, where, "mr_seam", 48),
        mr_td=hexadecimals(fields, "mr_td", 48),
        rtmr0=hexadecimals_or_any(fields, where, "rtmr0", 48),
        rtmr1=hexadecimals_or_any(fields, where, "rtmr1", 48),
        rtmr2=hexadecimals_or_any(fields, where, "rtmr2", 48),
        rtmr3=hexadecimals_or_any(fields, where, "rtmr3", 48),
        mr_config_id=fields.hexadecimal("mr_config_id", size=48),
        mr_owner=fields.hexadecimal("mr_owner", size=48),
        mr_owner_config=fields.hexadecimal("mr_owner_config", size=48),
        mr_service_td=fields.hexadecimal("mr_service_td", size=48),
    )
