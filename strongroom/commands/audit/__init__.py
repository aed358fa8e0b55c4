"""`strongroom audit …`: read a federation's log offline. Needs the base install only. One module each."""

from strongroom.cli import LazyGroup

command = LazyGroup(
    name="audit",
    package="strongroom.commands.audit",
    commands_help={
        "verify": "Verify every byte of STORE's log, and replay it.",
        "key": "Print the key of STORE's log, if its evidence vouches for it.",
        "report": "Verify STORE's log, and write what it tells as one HTML page.",
        "bundle": "Put STORE's log into one file that verifies offline.",
        "show": "Print the entries of STORE's log, unverified.",
        "prove": "Print a receipt for entry INDEX of STORE's log.",
        "check-receipt": "Check that ENTRY is in the log, by its RECEIPT.",
        "compare": "Hold A against B; write a fraud proof if they contradict.",
        "verify-fraud": "Check a fraud proof; 0 means that the fraud is proved.",
    },
    help="Verify a federation's log offline, or read it.",
)
