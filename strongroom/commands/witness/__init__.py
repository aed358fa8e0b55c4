"""`strongroom witness …`: cosign logs of others (C2SP tlog-witness). Needs the base install only. One module each."""

from strongroom.cli import LazyGroup

command = LazyGroup(
    name="witness",
    package="strongroom.commands.witness",
    commands_help={
        "init": "Make a witness's key, settings and state.",
        "key": "Print a witness's key, and its [[log.witness]] block.",
        "add": "Know a log, by its key.",
        "serve": "Answer add-checkpoint until told to stop.",
    },
    help="Cosign logs of others, as a stand-alone witness.",
)
