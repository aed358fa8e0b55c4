"""Numbers and words that a test plants in what must stay secret, and finds again wherever they got.

A marker is 64 numbers of four bytes. Their low two bytes are the same in all markers of a run, and chosen anew for each
run; bits 20 to 22 say which marker it is, bits 16 to 19 which of its numbers follow each other. So a search is a fast
pass for two bytes, any 16 bytes of a marker are enough, wherever they lie and however they are aligned, and chance does
not look like one. Sign and exponent are not compared: what the equations of a round make of a marker (−H q, Σ w q, with
powers of two for H and w) is that marker still.

It is found as float32 (and as the raw bytes of int64 and of keys), as float64, in which sums are taken, as the reversed
words that SHA-256 works on and, by its first numbers, squared. Names, metrics and other keys are found whole.
"""

import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from itertools import pairwise
from random import Random

import torch

NUMBERS = 64
# Pieces of memory that are searched one by one must overlap by this much.
OVERLAP_BYTES = 64
_Tags = Callable[[bytes], tuple[int, int]]


class Kind(IntEnum):
    """What a marker stands for."""

    MODEL = 0
    CONTROL = 1
    UPDATE = 2
    REFUSED = 3
    FLOAT_BUFFER = 4
    INTEGER_BUFFER = 5
    CONTENT_KEY = 6
    SEALING_KEY = 7

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


class Markers:
    """One run's markers, and what else is searched for: `learn` it."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        # No bytes that fill memory by themselves; odd, so that float64 has no zeros in their places.
        self._low = bytes([self._random.randrange(0x31, 0x7F, 2), self._random.randrange(0x81, 0xF0)])
        self._data = {kind: self._make(kind) for kind in Kind}
        self._pairs = {pair for data in self._data.values() for pair in _pairs(data)}
        self._forms = _forms(self._low)
        self._squares = {kind: self.numbers(kind)[:4].double().square().numpy().tobytes() for kind in _SQUARED}
        self._words: dict[str, bytes] = {}

    def data(self, kind: Kind) -> bytes:
        """256 bytes."""
        return self._data[kind]

    def numbers(self, kind: Kind) -> torch.Tensor:
        """64 float32 between ½ and 2 in magnitude; the integer buffer's are positive."""
        return torch.frombuffer(bytearray(self._data[kind]), dtype=torch.float32)

    def key(self, kind: Kind, size: int) -> bytes:
        """Secret bytes that are recognised: numbers of a marker, under signs and exponents of their own."""
        start = 4 * self._random.randrange(NUMBERS)
        key = bytearray((2 * self._data[kind])[start : start + size])
        for at in range(3, size, 4):
            key[at] = self._random.randrange(256)
        return bytes(key)

    def learn(self, name: str, data: bytes) -> None:
        """Search for these bytes too, under this name."""
        self._words[name] = data

    def found_in(self, pieces: Iterable[bytes]) -> set[str]:
        """The names of what is in any of the pieces."""
        found: set[str] = set()
        for piece in pieces:
            found |= self.markers_in([piece])
            found |= {name for name, word in self._words.items() if name not in found and word in piece}
        return found

    def markers_in(self, pieces: Iterable[bytes]) -> set[str]:
        """Of those the markers only, which takes a quarter of the time."""
        found: set[str] = set()
        for piece in pieces:
            found |= {str(kind) for kind, squares in self._squares.items() if squares in piece}
            for pattern, tags_of in self._forms:
                at = 0
                while match := pattern.search(piece, at):
                    tags, at = tags_of(match[0]), match.start() + 1
                    if tags in self._pairs:
                        found.add(str(Kind(tags[0] >> 4)))
                        at += 4 * NUMBERS  # The rest of the same, most likely.
        return found

    def _make(self, kind: Kind) -> bytes:
        signs = (0x3F,) if kind is Kind.INTEGER_BUFFER else (0x3F, 0xBF)
        random = self._random
        # Each differs from the one before: equal bytes next to each other are not rare enough.
        steps = [random.randrange(1, 16) for _ in range(NUMBERS)]
        tags = [kind << 4 | sum(steps[: i + 1]) % 16 | random.choice((0, 0x80)) for i in range(NUMBERS)]
        return b"".join(self._low + bytes([tag, random.choice(signs)]) for tag in tags)


_SQUARED = (Kind.UPDATE, Kind.REFUSED)


def _pairs(data: bytes) -> set[tuple[int, int]]:
    """Which tags (bits 16 to 22) follow each other."""
    tags = [tag & 0x7F for tag in data[2::4]]
    return set(pairwise([*tags, tags[0]]))


def _forms(low: bytes) -> tuple[tuple[re.Pattern[bytes], _Tags], ...]:
    """Patterns over consecutive numbers, and the tags of two neighbours in what such a pattern finds."""
    number, swapped = int.from_bytes(low, "little"), low[::-1]
    # Float64: the mantissa's 23 bits stand 29 bits higher, over zeros.
    high = bytes([number << 5 & 0xE0, number >> 3 & 0xFF])
    return (
        (_pattern(low, 2, low, 2, low), lambda found: (found[2] & 0x7F, found[6] & 0x7F)),
        (_pattern(swapped, 2, swapped, 2, swapped), lambda found: (found[3] & 0x7F, found[7] & 0x7F)),
        (
            _pattern(high, 3, b"\0\0\0", high, 2),
            lambda found: (found[2] >> 5 | (found[3] & 0x0F) << 3, found[10] >> 5 | (found[11] & 0x0F) << 3),
        ),
    )


def _pattern(*parts: bytes | int) -> re.Pattern[bytes]:
    """Literal bytes, and numbers of any bytes between them."""
    return re.compile(
        b"".join(re.escape(part) if isinstance(part, bytes) else b"." * part for part in parts), re.DOTALL
    )
