"""A set of ids or digests of one width that grows for as long as a log does: some 10 bytes each beside their own.

Exact: none is taken for another. A `set` takes 100 bytes for one of 16. Called by the transition table, for upload ids
(which silos choose) and for what may stand in a log once.
"""

from collections.abc import Iterable, Iterator

_BUCKETS = 2**16


class IdSet:
    """Grows only. `ValueError` for what is not `width_bytes` long."""

    __slots__ = ("_buckets", "_size", "width_bytes")

    def __init__(self, width_bytes: int, ids: Iterable[bytes] = ()) -> None:
        self.width_bytes = width_bytes
        # By Python's keyed hash, so that nobody who chooses ids chooses buckets.
        self._buckets: dict[int, bytearray] = {}
        self._size = 0
        for item in ids:
            self.add(item)

    def __copy__(self) -> "IdSet":
        other = IdSet(self.width_bytes)
        other._buckets = {number: bytearray(bucket) for number, bucket in self._buckets.items()}
        other._size = self._size
        return other

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        for bucket in self._buckets.values():
            for start in range(0, len(bucket), self.width_bytes):
                yield bytes(bucket[start : start + self.width_bytes])

    def __contains__(self, item: bytes) -> bool:
        bucket = self._buckets.get(hash(item) % _BUCKETS)
        if bucket is None or len(item) != self.width_bytes:
            return False
        position = bucket.find(item)
        while position % self.width_bytes and position >= 0:  # Across two neighbours: none of them.
            position = bucket.find(item, position + 1)
        return position >= 0

    def add(self, item: bytes) -> None:
        """Put an id in, once."""
        if len(item) != self.width_bytes:
            raise ValueError(f"id: expected {self.width_bytes} bytes, found {len(item)}")
        if item not in self:
            self._buckets.setdefault(hash(item) % _BUCKETS, bytearray()).extend(item)
            self._size += 1
