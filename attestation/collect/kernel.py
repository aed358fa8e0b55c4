"""The kernel's side of a device: one call, and memory whose address it is given.

Everything above takes the `Device` Protocol; `DeviceFile` is the real one.
"""

import ctypes
import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol


class Device(Protocol):
    """A character device that is asked by ioctl."""

    @property
    def name(self) -> str:
        """Its path, for messages."""
        ...

    def obstacle(self) -> str | None:
        """Why it can't be used, in words; None if it can. Asks it for nothing."""
        ...

    def ioctl(self, request: int, argument: bytearray) -> None:
        """One request. The kernel reads and writes `argument` in place, also where it raises `OSError`."""
        ...


class DeviceFile:
    """A device by its path, opened for each request."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._path)

    def obstacle(self) -> str | None:
        """Why it can't be opened."""
        try:
            os.close(self._open())
        except FileNotFoundError:
            return "no such device"
        except PermissionError:
            return f"user {os.geteuid()} may not open it for reading and writing"
        except OSError as error:
            return error.strerror
        return None

    def ioctl(self, request: int, argument: bytearray) -> None:
        """One request; raises `OSError`."""
        descriptor = self._open()
        try:
            fcntl.ioctl(descriptor, request, argument, True)
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CLOEXEC)


class KernelBuffer:
    """Memory with an address, for requests that hold pointers. Zeroed when its block ends: it may hold a key."""

    def __init__(self, content: bytes, size: int) -> None:
        """`size` bytes that begin with `content`, the rest zero."""
        self.size = size
        self._memory = bytearray(content.ljust(size, b"\0"))
        # Holds the memory where it is.
        self._place = (ctypes.c_char * size).from_buffer(self._memory)

    @property
    def address(self) -> int:
        """Where it lies, while it lives."""
        return ctypes.addressof(self._place)

    def view(self, start: int, stop: int) -> memoryview:
        """Part of it, without a copy."""
        return memoryview(self._memory)[start:stop]

    def read(self, start: int, stop: int) -> bytes:
        """A copy of part of it, which nobody zeroes."""
        return bytes(self.view(start, stop))

    def __enter__(self) -> "KernelBuffer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._memory[:] = bytes(self.size)


def strerror(error: OSError) -> str:
    """An error's name and what it means: "ENXIO (No such device or address)"."""
    number = error.errno or 0
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
