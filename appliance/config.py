"""`appliance.toml`: what is local to the machine on which an appliance runs. Nothing in it can weaken a promise.

The operator, who is the adversary (DESIGN §2), writes this file. It is read by the supervisor only; what the federation
relies on stands in the agreement, whose digest every party compares. Per key, what somebody gains who may change it:

`agreement`   another agreement: other digest, other state key, every silo refuses it by digest. Denial of service.
`layout`      a file that isn't the one which the agreement names by digest: the enclave doesn't start.
`store`       an older copy or an empty directory: a rollback, which gets no cosignature and releases nothing.
`listen.*`    another address: silos don't find the appliance, or find someone who can't show its evidence.
`endorsements`  files that silos verify under roots of their own, or miss: denial of service.
`predecessor`   another log than the agreement's predecessor, or one that has not ended: the enclave doesn't start.
`witness.url` another address: the witness isn't found, or one answers without the key that the agreement names, so that
              its line doesn't verify. Where the agreement demands that witness, nothing is released.
`threads`     slower or faster merging; the result is the same to the bit.
`users.*`     whether the gateway's process may look at the enclave's. The TEE keeps both from the host; within it, one
              user for both lets a bug in the gateway's parsers reach further. The start-up says which it is.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from protocol.agreement_terms import MAXIMUM_WITNESSES
from protocol.agreement_toml import AgreementError, read_tables
from protocol.errors import ProtocolError
from protocol.fields import Fields

DEFAULT_THREADS = 2
_MAXIMUM_THREADS = 256
_FIRST_USER, _LAST_USER = 1, 2**31 - 1
WITNESS_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253})"
    r"(:(?P<port>[1-9][0-9]{0,4}))?(?P<prefix>(/[A-Za-z0-9._~%-]{1,255}){0,8})/?",
    re.ASCII,
)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):(0|[1-9][0-9]{0,4})")


class ConfigurationError(ProtocolError):
    """An `appliance.toml` that can't be one: a line that names file, key, what was expected and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """Numeric ids: the enclave's user, the gateway's, and the group that both are in."""

    enclave: int
    gateway: int
    group: int


DEFAULT_USERS = Users(enclave=64_101, gateway=64_102, group=64_100)
"""Taken where the file names none; nobody's on a usual system. They take effect only where it runs as root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessAddress:
    """Where a further witness that the agreement names is asked: the submission prefix of its URL."""

    name: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplianceConfig:
    """Absolute paths; addresses as `host:port`, where port 0 asks for a free one."""

    agreement: Path
    layout: Path
    store: Path
    enrolment: str
    federation: str
    endorsements: Path | None
    predecessor: Path | None
    threads: int
    users: Users
    witnesses: tuple[WitnessAddress, ...]

    @classmethod
    def parse(cls, data: bytes, file: Path) -> "ApplianceConfig":
        """Read the file's bytes; paths in it are relative to its folder. Raises `ConfigurationError` only."""
        try:
            tables = read_tables(data, file.name)
        except AgreementError as error:
            raise ConfigurationError(str(error)) from error
        folder = file.absolute().parent
        root = Fields(tables, f"{file.name}:", ConfigurationError, " ")
        listen = Fields(root.take("listen", "a table"), f"{file.name}: [listen]", ConfigurationError, " ")
        config = cls(
            agreement=folder / root.text("agreement", limit=4096),
            layout=folder / root.text("layout", limit=4096),
            store=folder / root.text("store", limit=4096),
            enrolment=_address(listen, "enrolment"),
            federation=_address(listen, "federation"),
            endorsements=folder / root.text("endorsements", limit=4096) if root.has("endorsements") else None,
            predecessor=folder / root.text("predecessor", limit=4096) if root.has("predecessor") else None,
            threads=root.integer("threads", minimum=1, maximum=_MAXIMUM_THREADS)
            if root.has("threads")
            else DEFAULT_THREADS,
            users=_users(root, file.name),
            witnesses=_witnesses(root),
        )
        listen.close()
        root.close()
        return config


def _address(listen: Fields, key: str) -> str:
    value = listen.text(key)
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match.group(2)) > 65_535:
        raise listen.error(key, '"host:port" with a port from 0 to 65535', value)
    return value


def _witnesses(root: Fields) -> tuple[WitnessAddress, ...]:
    if not root.has("witness"):
        return ()
    addresses: list[WitnessAddress] = []
    for table in root.tables("witness", minimum=1, maximum=MAXIMUM_WITNESSES):
        name, url = table.name("name"), table.text("url", limit=1024)
        match = WITNESS_URL.fullmatch(url)
        if match is None or int(match["port"] or 0) > 65_535:
            raise table.error("url", '"http://host:port/prefix" or https, without a query', url)
        if any(name == other.name for other in addresses):
            raise table.error("name", "each witness once", name)
        table.close()
        addresses.append(WitnessAddress(name=name, url=url))
    return tuple(addresses)


def _users(root: Fields, file: str) -> Users:
    if not root.has("users"):
        return DEFAULT_USERS
    table = Fields(root.take("users", "a table"), f"{file}: [users]", ConfigurationError, " ")
    users = Users(
        enclave=table.integer("enclave", minimum=_FIRST_USER, maximum=_LAST_USER),
        gateway=table.integer("gateway", minimum=_FIRST_USER, maximum=_LAST_USER),
        group=table.integer("group", minimum=_FIRST_USER, maximum=_LAST_USER),
    )
    if users.enclave == users.gateway:
        raise table.error("gateway", "another user than the enclave's", users.gateway)
    table.close()
    return users
