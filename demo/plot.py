"""The demonstration's plot: test accuracy by round, as a PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def accuracy_plot(
    file: Path, *, scaffold: Mapping[int, float], fedavg: Sequence[float], alone: Sequence[float], centralised: float
) -> None:
    """`scaffold`: rounds completed → accuracy; `fedavg`: accuracy after 0, 1, 2, … rounds; the others are levels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
    axes.axhline(centralised, color="0.35", linestyle="--", linewidth=1, label="all data in one place")
    axes.plot(
        list(scaffold),
        list(scaffold.values()),
        color="#1f6f8b",
        linewidth=2.2,
        label="SCAFFOLD, through the strongroom",
    )
    axes.plot(range(len(fedavg)), fedavg, color="#d98324", linewidth=1.6, label="FedAvg")
    for index, level in enumerate(alone):
        axes.axhline(level, color="0.7", linewidth=1, label="each site alone" if index == 0 else None)
    axes.set(xlabel="rounds", ylabel="test accuracy", ylim=(0, 1), xlim=(0, len(fedavg) - 1))
    axes.set_title("Handwritten digits, four sites that have each seen only some of them")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)
