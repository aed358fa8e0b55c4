"""`silo.toml`: what is local to one silo. Nothing in it can weaken a promise.

It says where things are (files, addresses) and which silo this is; what must hold is in the agreement. Relative
paths are relative to the file. Called by the composition roots: `strongroom.silo` and `strongroom silo …`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import tomli

from protocol.agreement import Agreement
from protocol.errors import MalformedError, ProtocolError, RefusedError
from protocol.fields import Fields, format_digest
from protocol.keys import SigningKey
from protocol.layout import Layout
from silo_client.identity import read_identity

_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[1-9][0-9]{0,4})")
_ADDRESS_EXPECTED = '"host:port"'
_LIMIT_BYTES = 2**20


class SiloConfigError(ProtocolError):
    """Something local is wrong: a single line naming file, key, what was expected and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one of the appliance's ports listens. It carries no trust: evidence says who answers."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def connect_host(self) -> str:
        """The host as the socket library takes it (an IPv6 address without its brackets)."""
        return self.host.strip("[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiloConfig:
    """One silo's local settings; `file` is where they stood."""

    file: Path
    name: str
    agreement: Path
    layout: Path
    initial_model: Path | None
    identity: Path
    state: Path
    endorsements: Path | None
    keep_model: bool
    enrolment: Address
    federation: Address

    @classmethod
    def load(cls, file: Path) -> "SiloConfig":
        """Read `silo.toml`; raises `SiloConfigError`."""
        return cls.parse(_read(file, "a silo.toml"), file)

    @classmethod
    def parse(cls, data: bytes, file: Path) -> "SiloConfig":
        """Read the closed schema; `file` names it in errors and anchors relative paths."""
        try:
            document = tomli.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise SiloConfigError(
                f"{file.name}: expected TOML in UTF-8, found an error: {str(error)[:200]!a}"
            ) from error
        fields = Fields(document, f"{file.name}:", SiloConfigError, " ")
        appliance = Fields(fields.take("appliance", "a table"), f"{file.name}: [appliance]", SiloConfigError, " ")
        folder = file.parent
        config = cls(
            file=file,
            name=fields.name("name"),
            agreement=_path(fields, "agreement", folder),
            layout=_path(fields, "layout", folder),
            initial_model=_path(fields, "initial_model", folder) if fields.has("initial_model") else None,
            identity=_path(fields, "identity", folder),
            state=_path(fields, "state", folder),
            endorsements=_path(fields, "endorsements", folder) if fields.has("endorsements") else None,
            keep_model=fields.boolean("keep_model") if fields.has("keep_model") else True,
            enrolment=_address(appliance, "enrolment"),
            federation=_address(appliance, "federation"),
        )
        appliance.close()
        fields.close()
        return config

    def error(self, key: str, expected: str, found: str) -> SiloConfigError:
        """The error for one key of this file."""
        return SiloConfigError(f"{self.file.name}: {key}: expected {expected}, found {found}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiloFiles:
    """What `silo.toml` points to, read and held against each other."""

    agreement: Agreement
    layout: Layout
    identity: SigningKey

    @classmethod
    def load(cls, config: SiloConfig) -> "SiloFiles":
        """Read agreement, layout and identity key.

        Raises `AgreementError` for the agreement's own mistakes, and `SiloConfigError` if the layout isn't the one
        that the agreement names, or the key isn't that of this silo.
        """
        agreement = Agreement.parse(_read(config.agreement, "the agreement"), config.agreement.name)
        layout = _load_layout(config, agreement)
        try:
            terms = agreement.silo(config.name)
        except RefusedError as error:
            names = ", ".join(silo.name for silo in agreement.silos[:8])
            raise config.error("name", f"a silo of the agreement ({names})", repr(config.name)) from error
        identity = read_identity(config.identity)
        if identity.public != terms.identity:
            raise config.error(
                "identity", f"the key of {config.name} in the agreement, {terms.identity}", str(identity.public)
            )
        return cls(agreement=agreement, layout=layout, identity=identity)


def _load_layout(config: SiloConfig, agreement: Agreement) -> Layout:
    try:
        layout = Layout.parse(_read(config.layout, "the layout", limit_bytes=2**26))
    except MalformedError as error:
        raise config.error("layout", "a layout.json", str(error)) from error
    if layout.digest != agreement.model.layout:
        raise config.error(
            "layout",
            f"the agreement's layout {format_digest(agreement.model.layout)}",
            f"{format_digest(layout.digest)} in {config.layout}",
        )
    return layout


def _read(path: Path, what: str, limit_bytes: int = _LIMIT_BYTES) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise SiloConfigError(f"{path}: expected {what}, found an error: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise SiloConfigError(f"{path}: expected {what} of at most {limit_bytes} bytes, found more")
    return data


def _path(fields: Fields, key: str, folder: Path) -> Path:
    return folder / fields.text(key, limit=4096)


def _address(fields: Fields, key: str) -> Address:
    value = fields.take(key, _ADDRESS_EXPECTED)
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match["port"]) > 65_535:
        raise fields.error(key, _ADDRESS_EXPECTED, value)
    return Address(host=match["host"], port=int(match["port"]))
