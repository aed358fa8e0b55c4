"""`strongroom demo`: the main job on real data, in processes, on this machine."""

import shlex
import shutil
import time
from pathlib import Path

import click
from rich.console import Console

from strongroom.commands.failure import Failure

_PROTECTS_NOTHING = "The TEEs of this demonstration are simulated: THIS PROTECTS NOTHING. It shows how things go."


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-run"),
    show_default=True,
    help="Folder for agreement, log, model and plot; an earlier run in it is replaced.",
)
@click.option(
    "--appliance",
    metavar="COMMAND",
    help="What runs `strongroom` for the appliance, such as a container; {folder} in it is the run's folder.",
)
def command(out: Path, appliance: str | None) -> None:
    """Watch four silos train one model, on this machine.

    Real data, real processes, simulated TEEs: one silo is refused over a byte of its agreement, one is killed in the
    middle of a round, and an auditor verifies the log at the end.
    """
    import torch

    from demo import baselines, digits
    from demo.plot import accuracy_plot
    from demo.run import Demonstration, audit, results
    from demo.task import SITES
    from demo.workspace import ROUNDS, STRONGROOM, StepFailedError, Workspace

    torch.set_num_threads(1)
    began = time.monotonic()
    console = Console(soft_wrap=True)
    console.print(_PROTECTS_NOTHING, style="bold red")
    folder = _fresh(out.absolute())
    try:
        workspace = Workspace(folder, shlex.split(appliance) if appliance else STRONGROOM)
        course = Demonstration(workspace, console).run()
        model = digits.model()
        model.load_state_dict(_state_dict(workspace.site(SITES[0]) / "model.safetensors"))
        final = digits.accuracy(model)
        shutil.copy(workspace.site(SITES[0]) / "model.safetensors", folder / "model.safetensors")
        console.print("• the same with FedAvg (simulated), each site alone, and all data in one place …")
        fedavg = baselines.fedavg(workspace.fedavg)
        alone = [baselines.alone(index) for index in range(len(SITES))]
        centralised = baselines.centralised()
        rows = [(f"{name} alone", level) for name, level in zip(SITES, alone, strict=True)]
        rows += [
            ("FedAvg", fedavg[-1]),
            ("SCAFFOLD, through the strongroom", final),
            ("all data in one place", centralised),
        ]
        console.print(results(rows))
        # Sites measure the model that a round begins with: what round n reports is the accuracy after n - 1 rounds.
        scaffold = {number - 1: level for number, level in sorted(course.accuracy.items())} | {ROUNDS: final}
        accuracy_plot(folder / "accuracy.png", scaffold=scaffold, fedavg=fedavg, alone=alone, centralised=centralised)
        console.print("• an auditor verifies the log on a laptop:")
        audit(workspace, console)
    except StepFailedError as error:
        raise Failure(f"{error}\nwhat there is so far lies in {folder}") from error
    console.print(f"• done in {time.monotonic() - began:.0f} s; everything lies in {folder}:", highlight=False)
    for name, what in (
        ("federation.toml", "the agreement"),
        ("appliance/store/log", "the log"),
        ("model.safetensors", "the model"),
        ("accuracy.png", "accuracy by round"),
    ):
        console.print(f"    {name:<20} {what}", highlight=False)


def _fresh(folder: Path) -> Path:
    """An empty folder; only what an earlier demonstration left is ever deleted."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / ".strongroom-demo").exists():
            raise Failure(f"{folder}: expected an empty folder or an earlier demonstration, found other files")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / ".strongroom-demo").touch()
    return folder


def _state_dict(file: Path) -> "dict[str, object]":
    from safetensors.torch import load_file

    return dict(load_file(file))
