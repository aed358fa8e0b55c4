"""The subcommands, one module each with an attribute `command`; `strongroom.cli` imports them when they are run."""

__all__: list[str] = []
