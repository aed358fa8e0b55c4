"""What the tables of TDX and SGX have in common: the platform underneath, and how far the values reach."""

from attestation.dcap.intel_json import NEVER_ACCEPTED, TcbStatus
from attestation.reference_values import Covers, PlatformReferenceValues, Revocation
from protocol.agreement_toml import toml_string
from protocol.fields import Fields
from protocol.tee_tables.lists import (
    hexadecimal_list_or_any,
    hexadecimals_or_any,
    items,
    string_list,
)
from protocol.tee_tables.row import Row

_STATUSES = tuple(status for status in TcbStatus if status not in NEVER_ACCEPTED)


def terms_rows(covers: Covers, revocation: Revocation) -> list[Row]:
    """The first two lines of the table."""
    return [
        Row(
            "covers", toml_string(covers), 'how far the values reach: "code", or "firmware-only", which proves nothing'
        ),
        Row("revocation", toml_string(revocation), "Intel's two revocation lists must come along, signed and current"),
    ]


def read_terms(fields: Fields) -> tuple[Covers, Revocation]:
    """What `terms_rows` wrote."""
    covers = Covers(fields.choice("covers", tuple(Covers)))
    return covers, Revocation(fields.choice("revocation", tuple(Revocation)))


def platform_rows(values: PlatformReferenceValues) -> list[Row]:
    """The lines about the machine, which `read_platform` reads back to equal values."""
    return [
        Row("tcb_statuses", string_list(values.tcb_statuses), "how the platform may stand by Intel's lists"),
        Row("advisory_ids", string_list(values.advisory_ids), "Intel's advisories that may apply to it"),
        Row(
            "minimum_tcb_evaluation_data_number",
            str(values.minimum_tcb_evaluation_data_number),
            "the oldest edition of Intel's lists; raise it with each disclosure",
        ),
        Row("dynamic_platform", _boolean(values.dynamic_platform), "whether packages may be added to the platform"),
        Row("cached_keys", _boolean(values.cached_keys), "whether Intel may hold the platform's root keys"),
        Row("smt", _boolean(values.smt), "whether two threads may share a core"),
        Row("fmspcs", hexadecimal_list_or_any(values.fmspcs), 'which kinds of platform, or "any"'),
        Row("ppids", hexadecimal_list_or_any(values.ppids), 'which single platforms, or "any"'),
    ]


def read_platform(fields: Fields, where: str) -> PlatformReferenceValues:
    """The lines about the machine; raises `AgreementError`, `ReferenceValuesError`."""
    return PlatformReferenceValues(
        tcb_statuses=items(fields, "tcb_statuses", f"one of {', '.join(_STATUSES)}", _status),
        advisory_ids=items(fields, "advisory_ids", "a name such as INTEL-SA-00615", _text, minimum=0),
        minimum_tcb_evaluation_data_number=fields.integer("minimum_tcb_evaluation_data_number", maximum=2**32 - 1),
        dynamic_platform=fields.boolean("dynamic_platform"),
        cached_keys=fields.boolean("cached_keys"),
        smt=fields.boolean("smt"),
        fmspcs=hexadecimals_or_any(fields, where, "fmspcs", 6),
        ppids=hexadecimals_or_any(fields, where, "ppids", 16),
    )


def _status(item: object) -> TcbStatus | None:
    return next((status for status in _STATUSES if item == status.value), None)


def _text(item: object) -> str | None:
    return item if isinstance(item, str) else None


def _boolean(value: bool) -> str:
    return "true" if value else "false"
