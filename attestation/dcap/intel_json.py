"""Fields of the JSON that Intel signs, read strictly: one length of hexadecimal, numbers in range, times in UTC."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from attestation.errors import EvidenceMalformed

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_ADVISORY = re.compile(r"[A-Z0-9-]{1,40}")
_MAXIMUM_ITEMS = 256


class TcbStatus(StrEnum):
    """How a platform's security versions stand, as Intel spells it.

    The last three are never written down by Intel: they are found by whoever compares a quote with the levels.
    """

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    NOT_SUPPORTED = "NotSupported"


PLATFORM_STATUSES = tuple(TcbStatus)[:7]
"""What may stand in a platform's level."""
COMPONENT_STATUSES = (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED)
"""What may stand in a level of a TDX module or a quoting enclave."""
NEVER_ACCEPTED = (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED)


class JsonFields:
    """The fields of one object of Intel's; each method raises `EvidenceMalformed` naming object and field.

    Fields that nobody asks for are ignored: Intel signs them, and may add some within a version.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise EvidenceMalformed(where, expected="an object", found=type(value).__name__)
        self._value = value
        self._where = where

    def has(self, key: str) -> bool:
        """Whether the field is there."""
        return key in self._value

    def integer(self, key: str, maximum: int) -> int:
        """A whole number from 0 to `maximum`."""
        value = self._value.get(key)
        if type(value) is not int or not 0 <= value <= maximum:
            raise self._error(key, f"a whole number from 0 to {maximum}", value)
        return value

    def hexadecimal(self, key: str, size: int) -> bytes:
        """`size` bytes in hexadecimal digits of either case."""
        value = self._value.get(key)
        if not isinstance(value, str) or not re.fullmatch(f"[0-9a-fA-F]{{{2 * size}}}", value):
            raise self._error(key, f"{2 * size} hexadecimal digits", value)
        return bytes.fromhex(value)

    def date(self, key: str) -> datetime:
        """A time such as 2026-02-18T10:58:51Z."""
        value = self._value.get(key)
        if isinstance(value, str) and _DATE.fullmatch(value):
            try:
                return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            except ValueError:
                pass
        raise self._error(key, "a time such as 2026-02-18T10:58:51Z", value)

    def text(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of the allowed strings."""
        value = self._value.get(key)
        if not isinstance(value, str) or value not in allowed:
            raise self._error(key, " or ".join(allowed), value)
        return value

    def name(self, key: str) -> str:
        """Any string."""
        value = self._value.get(key)
        if not isinstance(value, str):
            raise self._error(key, "a string", value)
        return value

    def status(self, allowed: tuple[TcbStatus, ...]) -> TcbStatus:
        """`tcbStatus`."""
        return TcbStatus(self.text("tcbStatus", allowed))

    def advisory_ids(self) -> tuple[str, ...]:
        """`advisoryIDs`, which may be missing."""
        values = self._items("advisoryIDs") if self.has("advisoryIDs") else []
        for value in values:
            if not isinstance(value, str) or not _ADVISORY.fullmatch(value):
                raise self._error("advisoryIDs", "names such as INTEL-SA-00615", value)
        return tuple(str(value) for value in values)

    def child(self, key: str) -> "JsonFields":
        """An object."""
        return JsonFields(self._value.get(key), f"{self._where}.{key}")

    def children(self, key: str, count: int | None = None) -> list["JsonFields"]:
        """A list of objects: exactly `count`, or any number."""
        items = self._items(key)
        if count is not None and len(items) != count:
            raise self._error(key, f"{count} of them", items)
        return [JsonFields(item, f"{self._where}.{key}[{index}]") for index, item in enumerate(items)]

    def _items(self, key: str) -> list[object]:
        value = self._value.get(key)
        if not isinstance(value, list) or len(value) > _MAXIMUM_ITEMS:
            raise self._error(key, f"a list of at most {_MAXIMUM_ITEMS}", value)
        return value

    def _error(self, key: str, expected: str, value: object) -> EvidenceMalformed:
        if key not in self._value:
            found = "none"
        else:
            found = f"{len(value)} items" if isinstance(value, list) else ascii(value)[:80]
        return EvidenceMalformed(f"{self._where}.{key}", expected=expected, found=found)
