"""`strongroom attest inspect | verify | reference | collect`: evidence of hardware, by hand. One module each."""

from strongroom.cli import LazyGroup

command = LazyGroup(
    name="attest",
    package="strongroom.commands.attest",
    commands_help={
        "inspect": "Print what EVIDENCE says, without judging it.",
        "verify": "Judge EVIDENCE by a policy.",
        "reference": "Print the policy that accepts EVIDENCE.",
        "collect": "Say what this machine offers, and collect evidence.",
    },
    help="Judge evidence of trusted hardware, or read it.",
)
