"""What changed between two agreements, key by key, in the words of the file. Pure; for people, not for decisions."""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.agreement import Agreement
from protocol.agreement_toml import read_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key or table: where it stands, and its value in the old file and in the new one; None where it is absent."""

    place: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.old is None:
            return f"+ {self.place}: {self.new}"
        return f"- {self.place}: {self.old}" if self.new is None else f"  {self.place}: {self.old} → {self.new}"


def changes(old: Agreement, new: Agreement) -> list[Change]:
    """Every key that differs, in the order of the files; comments and layout of the text are not compared."""
    before, after = (dict(_flat(read_tables(agreement.source, "agreement"), "")) for agreement in (old, new))
    places = list(dict.fromkeys([*before, *after]))
    return [
        Change(place=place, old=before.get(place), new=after.get(place))
        for place in places
        if before.get(place) != after.get(place)
    ]


def _flat(value: object, place: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value) and value:
        for number, item in enumerate(value, start=1):
            yield from _flat(item, f'{place} "{item["name"]}"' if "name" in item else f"{place} #{number}")
    else:
        yield place, _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
