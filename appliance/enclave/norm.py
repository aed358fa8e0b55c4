"""The one routine that judges a chunk's numbers: inspection and merge both call it and must agree bit for bit."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class SquareSum:
    """Σ v² of a chunk, in float64, with the same bits on every machine and in every thread.

    A reduction's bits depend on its order, and a library's order on vector width and threads. Here only elementwise
    operations are used: the squares, padded with zeros to a power of two, are folded in half until one is left.
    """

    def __init__(self, coordinates: int) -> None:
        """`coordinates`: the largest chunk that will be asked about."""
        size = 1 << max(coordinates - 1, 0).bit_length()
        self._squares = torch.zeros(size, dtype=torch.float64)
        self._folds: dict[int, tuple[Tensor, Tensor]] = {}
        while size > 1:
            self._folds[size] = (self._squares[: size // 2], self._squares[size // 2 : size])
            size //= 2

    def of(self, values: Tensor) -> float:
        """Σ v² of a float32 vector; infinite or NaN exactly if one of its values is not finite.

        (2¹⁸ squares of float32 values stay below 10⁸³: float64 doesn't overflow by itself.)
        """
        count = values.numel()
        size = 1 << max(count - 1, 0).bit_length()
        squares = self._squares[:count]
        squares.copy_(values)
        squares.mul_(squares)
        self._squares[count:size].zero_()
        while size > 1:
            low, high = self._folds[size]
            low.add_(high)
            size //= 2
        return float(self._squares[0]) if count else 0.0

    def wipe(self) -> None:
        """Overwrite with zeros."""
        self._squares.zero_()


def norm_of(square_sums: Iterable[float]) -> float:
    """The Euclidean norm from the chunks' square sums; exactly rounded sums don't depend on their order."""
    return math.sqrt(math.fsum(square_sums))
