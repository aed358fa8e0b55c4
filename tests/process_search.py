"""What can be read of a running process by root: its memory, its open files, what it was started with."""

import os
import resource
from array import array
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from markers import OVERLAP_BYTES

_PIECE_BYTES = 2**20
_ZEROS = bytes(_PIECE_BYTES + OVERLAP_BYTES)
_PAGE_BYTES = resource.getpagesize()
_CAP_SYS_PTRACE = 19


def may_read_memory() -> bool:
    """Whether this process may look at others' (root with CAP_SYS_PTRACE)."""
    return os.geteuid() == 0 and bool(int(status("self")["CapEff"], 16) >> _CAP_SYS_PTRACE & 1)


def status(pid: int | str) -> dict[str, str]:
    """/proc/<pid>/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def bytes_read(pid: int) -> int:
    """How much it has read of files so far."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def memory(pid: int) -> Iterator[bytes]:
    """All that a process has in memory, in overlapping pieces, but zeros and what it only maps from files."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for start, end in _resident(pid):
            for at in range(start, end, _PIECE_BYTES):
                try:
                    piece = os.pread(mem.fileno(), min(len(_ZEROS), end - at), at)
                except OSError:  # Gone since, or the kernel's own.
                    continue
                if not _ZEROS.startswith(piece):
                    yield piece


def memory_at(pid: int, address: int, size: int) -> bytes:
    """What lies at an address; nothing where there is none."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        try:
            return os.pread(mem.fileno(), size, address)
        except OSError:
            return b""


def occurrences(pid: int, needle: bytes) -> Iterator[int]:
    """The addresses at which these bytes lie."""
    for start, end in _resident(pid):
        data = memory_at(pid, start, end - start)
        at = data.find(needle)
        while at >= 0:
            yield start + at
            at = data.find(needle, at + 1)


def _resident(pid: int) -> Iterator[tuple[int, int]]:
    """The ranges of addresses that were ever touched (proc(5): pagemap's bits 63, present, and 62, swapped)."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in maps:
            addresses, permissions, _, _, _, *path = line.split(maxsplit=5)
            if permissions[0] != "r" or (permissions[1] != "w" and path and path[0].startswith("/")):
                continue
            start, end = (int(address, 16) // _PAGE_BYTES for address in addresses.split("-"))
            entries = array("Q", os.pread(pagemap.fileno(), 8 * (end - start), 8 * start))
            for touched, pages in groupby(enumerate(entries, start), lambda entry: entry[1] >> 62 > 0):
                if touched:
                    numbers = [number for number, _ in pages]
                    yield numbers[0] * _PAGE_BYTES, (numbers[-1] + 1) * _PAGE_BYTES


def open_files(pid: int, *, but_in: Path) -> Iterator[bytes]:
    """The regular files that a process holds open: those without a name, and those that lie outside a folder."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            path = Path(os.readlink(descriptor))
            if descriptor.is_file() and not (path.is_relative_to(but_in) and path.exists()):
                yield descriptor.read_bytes()
        except OSError:  # Closed since.
            continue


def started_with(pid: int) -> Iterator[bytes]:
    """Arguments, environment, and the names that its threads have given themselves."""
    for file in (Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/environ"), *Path(f"/proc/{pid}/task").glob("*/comm")):
        try:
            yield file.read_bytes()
        except OSError:
            continue


def files(*folders: Path) -> Iterator[bytes]:
    """All files below some folders, whole; some may go while they are read."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            try:
                if path.is_file() and not path.is_symlink():
                    yield path.read_bytes()
            except OSError:
                continue


def new_files(since: float, *folders: Path) -> Iterator[bytes]:
    """Files that lie directly in some folders, and were written since a time (unix seconds)."""
    for folder in folders:
        for path in folder.iterdir():
            try:
                if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= since - 1:
                    yield path.read_bytes()
            except OSError:
                continue


def children(pid: int) -> list[str]:
    """The pids of those that it has forked."""
    return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def mappings(pid: int) -> list[tuple[str, set[str]]]:
    """Its memory, range by range, by proc(5)'s smaps: the line that names one, its flags (sh: shared, lo: locked)."""
    found: list[tuple[str, set[str]]] = []
    line = ""
    for each in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if each.startswith("VmFlags:"):
            found.append((line, set(each.split()[1:])))
        elif "-" in each.split(maxsplit=1)[0]:
            line = each
    return found
