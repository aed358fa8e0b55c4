"""`tee = "confidential-space"`: digests and thumbprints in hexadecimal, the rest as Google's token spells it.

`signing_keys` is "google-root" or a list; `tcb_statuses` is there if and only if GCP_INTEL_TDX is among `hwmodels`;
`cmd_override` is "none" or a list, `env_override` "none" or a table.
"""

from typing import Literal

from attestation.tee import Tee
from attestation.terms import LONGEST_TEXT, Covers, Revocation
from attestation.token.confidential_space.reference_values import (
    DIGEST_BYTES,
    GOOGLE_ROOT,
    MAXIMUM_AGE_SECONDS,
    MAXIMUM_VERSION,
    THUMBPRINT_BYTES,
    ConfidentialSpaceReferenceValues,
    Gpu,
    HardwareModel,
    SupportAttribute,
)
from protocol.agreement_toml import fields_of, toml_string
from protocol.fields import Fields
from protocol.tee_tables.lists import (
    choices,
    hexadecimal_list,
    hexadecimals,
    items,
    string_list,
    string_list_or_any,
    texts,
    texts_or_any,
)
from protocol.tee_tables.row import Row

_NONE = "none"


def rows(values: ConfidentialSpaceReferenceValues) -> list[Row]:
    """The lines of the table but `tee`, which `read` reads back to equal values."""
    keys = toml_string(GOOGLE_ROOT) if values.signing_keys == GOOGLE_ROOT else hexadecimal_list(values.signing_keys)
    statuses = [Row("tcb_statuses", string_list(values.tcb_statuses), "accepted TCB statuses of Intel TDX")]
    command = string_list(values.cmd_override) if values.cmd_override else toml_string(_NONE)
    return [
        Row("signing_keys", keys, 'who signs: "google-root" (PKI tokens), or thumbprints of keys (OIDC tokens)'),
        Row("audiences", string_list(values.audiences), "whom the token is for, exactly"),
        Row("maximum_age_seconds", str(values.maximum_age_seconds), "how old a token may be when it is judged"),
        Row("hwmodels", string_list(values.hwmodels), "hardware; AMD SEV is not SEV-SNP, and warns"),
        *(statuses if values.tcb_statuses else []),
        Row("minimum_swversion", str(values.minimum_swversion), "the oldest Confidential Space image"),
        Row("support_attributes", string_list(values.support_attributes), "what Google must call that image"),
        Row("memory_monitoring", str(values.memory_monitoring).lower(), "whether Google's memory agent may run in it"),
        Row("image_digests", hexadecimal_list(values.image_digests), "workload images, SHA-256"),
        Row("image_references", string_list_or_any(values.image_references), 'where they come from, or "any"'),
        Row("cmd_override", command, "what the operator put in the command's place"),
        Row("env_override", _render_environment(values.env_override), "what the operator changed in the environment"),
        Row("project_ids", string_list(values.project_ids), "Google Cloud projects"),
        Row("zones", string_list_or_any(values.zones), 'zones, or "any"'),
        Row("service_accounts", string_list_or_any(values.service_accounts), 'whom it may run as, or "any"'),
        Row("gpu", toml_string(values.gpu), '"absent", or "on" for one with confidential computing fully on'),
        Row("revocation", toml_string(values.revocation), "tokens live an hour"),
        Row("covers", toml_string(values.covers), 'how far the digest reaches: "code", or "firmware-only"'),
    ]


def read(fields: Fields, where: str, tee: Tee) -> ConfidentialSpaceReferenceValues:
    """The keys of one table but `tee`; raises `AgreementError`, `ReferenceValuesError`."""
    models = choices(fields, "hwmodels", HardwareModel)
    return ConfidentialSpaceReferenceValues(
        tee=tee,
        signing_keys=_read_keys(fields, where),
        audiences=texts(fields, "audiences"),
        maximum_age_seconds=fields.integer("maximum_age_seconds", maximum=MAXIMUM_AGE_SECONDS),
        hwmodels=models,
        tcb_statuses=_read_statuses(fields, models),
        minimum_swversion=fields.integer("minimum_swversion", maximum=MAXIMUM_VERSION),
        support_attributes=choices(fields, "support_attributes", SupportAttribute),
        memory_monitoring=fields.boolean("memory_monitoring"),
        image_digests=hexadecimals(fields, "image_digests", DIGEST_BYTES),
        image_references=texts_or_any(fields, where, "image_references"),
        cmd_override=_read_command(fields, where),
        env_override=_read_environment(fields),
        project_ids=texts(fields, "project_ids"),
        zones=texts_or_any(fields, where, "zones"),
        service_accounts=texts_or_any(fields, where, "service_accounts"),
        gpu=Gpu(fields.choice("gpu", tuple(Gpu))),
        revocation=Revocation(fields.choice("revocation", tuple(Revocation))),
        covers=Covers(fields.choice("covers", tuple(Covers))),
    )


def _read_keys(fields: Fields, where: str) -> tuple[bytes, ...] | Literal["google-root"]:
    expected = f'"{GOOGLE_ROOT}" or a list of thumbprints of {2 * THUMBPRINT_BYTES} hexadecimal digits'
    value = fields.take("signing_keys", expected)
    if value == GOOGLE_ROOT:
        return GOOGLE_ROOT
    if not isinstance(value, list):
        raise fields.error("signing_keys", expected, value)
    return hexadecimals(fields_of({"signing_keys": value}, where), "signing_keys", THUMBPRINT_BYTES)


def _read_statuses(fields: Fields, models: tuple[HardwareModel, ...]) -> tuple[str, ...]:
    if HardwareModel.GCP_INTEL_TDX in models:
        return texts(fields, "tcb_statuses")
    if fields.has("tcb_statuses"):
        expected = "no such key without GCP_INTEL_TDX among hwmodels"
        raise fields.error("tcb_statuses", expected, fields.take("tcb_statuses", expected))
    return ()


def _read_command(fields: Fields, where: str) -> tuple[str, ...]:
    expected = f'"{_NONE}" or a list of strings'
    value = fields.take("cmd_override", expected)
    if value == _NONE:
        return ()
    if not isinstance(value, list):
        raise fields.error("cmd_override", expected, value)
    return items(fields_of({"cmd_override": value}, where), "cmd_override", "a string", _text)


def _read_environment(fields: Fields) -> tuple[tuple[str, str], ...]:
    expected = f'"{_NONE}" or a table of strings, not empty'
    value = fields.take("env_override", expected)
    if value == _NONE:
        return ()
    if not isinstance(value, dict) or not value or any(_text(item) is None for item in value.values()):
        raise fields.error("env_override", expected, value)
    return tuple(sorted(value.items()))


def _render_environment(override: tuple[tuple[str, str], ...]) -> str:
    if not override:
        return toml_string(_NONE)
    return "{ " + ", ".join(f"{toml_string(name)} = {toml_string(value)}" for name, value in override) + " }"


def _text(item: object) -> str | None:
    return item if isinstance(item, str) and len(item) <= LONGEST_TEXT else None
