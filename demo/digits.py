"""The data: scikit-learn's 1,797 handwritten digits (8 × 8 pixels, from 43 writers; UCI, shipped in the package).

Sorted by label and cut into as many parts as there are sites, so that no site has ever seen every digit. A fifth of
the images is set aside for testing before that.
"""

from functools import cache

import torch
from torch import Tensor, nn

CLASSES = 10
_PIXELS = 64
_BRIGHTEST = 16.0


@cache
def _split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.data / _BRIGHTEST, dtype=torch.float32)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[: len(labels) // 5], order[len(labels) // 5 :]
    return images[train], labels[train], images[test], labels[test]


def test_set() -> tuple[Tensor, Tensor]:
    """Images (359 × 64, float32 in 0..1) and labels that no site trains on."""
    return _split()[2], _split()[3]


def all_training_data() -> tuple[Tensor, Tensor]:
    """What a centralised trainer would have: all sites' images (1,438 × 64) and labels."""
    return _split()[0], _split()[1]


def part(index: int, parts: int) -> tuple[Tensor, Tensor]:
    """One site's images and labels: the index-th of `parts` pieces of the data sorted by label."""
    images, labels = all_training_data()
    piece = labels.argsort(stable=True).tensor_split(parts)[index]
    return images[piece], labels[piece]


def model() -> nn.Module:
    """A multilayer perceptron, 64-64-10, always with the same first weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(_PIXELS, 64), nn.ReLU(), nn.Linear(64, CLASSES))


def accuracy(network: nn.Module) -> float:
    """The share of test images that a model gets right."""
    images, labels = test_set()
    with torch.no_grad():
        return float((network(images).argmax(dim=1) == labels).float().mean())


def train(
    network: nn.Module, optimizer: torch.optim.Optimizer, data: tuple[Tensor, Tensor], *, steps: int, seed: int
) -> float:
    """An ordinary training loop: `steps` minibatches of 32; returns the mean loss."""
    images, labels = data
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(steps):
        batch = torch.randint(len(labels), (32,), generator=generator)
        loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.item()
    return total / steps
