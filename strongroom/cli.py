"""The `strongroom` command: a lazy group, so that help and the auditor's commands import neither torch nor grpc.

Each subcommand lives in `strongroom/commands/<name>.py` as an attribute `command`. Its one line of help stands here,
because asking the module for it would import it.
"""

import importlib
from collections.abc import Mapping

import click
from click.shell_completion import CompletionItem

_COMMANDS = {
    "agreement": "Check a federation's agreement, or make its [model] block.",
    "appliance": "Run the aggregator: enclave and gateway.",
    "attest": "Judge evidence of trusted hardware, or read it.",
    "audit": "Verify a federation's log offline, or read it.",
    "demo": "Watch four silos train one model, on this machine.",
    "silo": "Take part in a federation: keys, enrolment, training.",
    "witness": "Cosign logs of others, as a stand-alone witness.",
}
# Which extra brings a module that the base install leaves out.
_EXTRAS = {
    "torch": "silo",
    "numpy": "silo",
    "grpc": "silo",
    "google": "silo",
    "safetensors": "silo",
    "sklearn": "demo",
    "matplotlib": "demo",
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are run. `commands_help`: name → one line of help."""

    def __init__(
        self,
        *,
        name: str = "strongroom",
        package: str,
        commands_help: Mapping[str, str],
        help: str,  # noqa: A002  click's name
    ) -> None:
        super().__init__(name=name, help=help, no_args_is_help=True)
        self._package = package
        self.commands_help = dict(commands_help)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, without importing anything."""
        return list(self.commands_help)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        if cmd_name not in self.commands_help:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a subcommand; where an optional dependency is missing, say which extra brings it."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            extra = "appliance" if ctx.invoked_subcommand == "appliance" else _EXTRAS[package]
            raise click.ClickException(
                f"strongroom {ctx.invoked_subcommand}: expected the package {package!r}, found none; "
                f"pip install 'strongroom[{extra}]'"
            ) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the static help."""
        names = [
            CompletionItem(name, help=text) for name, text in self.commands_help.items() if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the static help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.commands_help.items()))


cli = click.version_option(package_name="strongroom")(
    LazyGroup(
        package="strongroom.commands",
        commands_help=_COMMANDS,
        help="Federated learning through an aggregator that nobody has to trust, its operator included.",
    )
)


def main() -> None:
    """The console script."""
    cli(prog_name="strongroom")


if __name__ == "__main__":
    main()
