"""`strongroom audit …`: read a federation's log offline. Needs the base install only. One module each."""

from strongroom.cli import LazyGroup

command = LazyGroup(
    name="audit",
    package="strongroom.commands.audit",
    commands_help={
        "verify": "Verify every byte of STORE's log, and replay it.",
        "report": "Verify STORE's log, and write what it tells as one HTML page.",
        "show": "Print the entries of STORE's log, unverified.",
    },
    help="Verify a federation's log offline, or read it.",
)
