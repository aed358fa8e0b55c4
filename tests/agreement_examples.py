"""A good agreement to start from, as text: every refusal in the tests is one change away from it.

Test files load this by path (`runpy.run_path`), as tests are no package.
"""

import base64
from hashlib import sha256

OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
MEASUREMENT = "5a" * 48


def identity(name: str) -> str:
    """A well-formed public key for one silo."""
    return "ed25519:" + base64.b64encode(sha256(name.encode()).digest()).decode()


def tee_table(heading: str, tee: str = "simulated") -> str:
    """One table of reference values for SEV-SNP evidence."""
    return f'''[[{heading}]]
tee = "{tee}"
products = ["Genoa"]
measurements = ["{MEASUREMENT}"]
covers = "code"
revocation = "minimum-tcb"
minimum_tcb = [{{ product = "Genoa", bootloader = 9, tee = 0, snp = 23, microcode = 72 }}]
provisional_firmware = false
policies = [0x30000]
platform_required = ["ecc"]
mitigations_required = 0
vmpl = 0
signing_keys = ["vcek"]
chip_ids = "any"
host_data = "{"00" * 32}"
id_block = "none"
'''


def silo_table(name: str, owner: str, weight: str = "1.0", tee: str = "simulated") -> str:
    """One silo with one accepted TEE."""
    table = '[[silo.tee]]\ntee = "none"\n' if tee == "none" else tee_table("silo.tee", tee)
    return f'''[[silo]]
name = "{name}"
owner = "{owner}"
jurisdiction = "CH"
identity = "{identity(name)}"
weight = {weight}
{table}'''


def witness_tables(witnesses: dict[str, str] | None, required: int) -> str:
    """The end of `[log]` with further witnesses; nothing without."""
    if not witnesses:
        return ""
    tables = [f'[[log.witness]]\nname = "{name}"\nkey = "{key}"\n' for name, key in witnesses.items()]
    return f"witnesses = {required}\n\n" + "\n".join(tables)


def good_agreement(
    *,
    owners: tuple[str, ...] = OWNERS,
    weights: tuple[str, ...] | None = None,
    tee: str = "simulated",
    silo_tee: str | None = None,
    cosigners: int | None = None,
    witnesses: dict[str, str] | None = None,
    required_witnesses: int = 0,
) -> str:
    """The text of an agreement that parses: one silo an owner ("silo-0", …), simulated TEEs, SCAFFOLD.

    `witnesses`: further witnesses' verifier keys by their names in the agreement.
    """
    distinct = len(dict.fromkeys(owners))
    quorum = cosigners if cosigners is not None else (distinct + 1) // 2 + 1
    weights = weights if weights is not None else ("1.0",) * len(owners)
    silos = [
        silo_table(f"silo-{i}", owner, weight, tee if silo_tee is None else silo_tee)
        for i, (owner, weight) in enumerate(zip(owners, weights, strict=True))
    ]
    return f'''# An example.
[federation]
name = "digits"
minimum_cohort = 2
rounds = 40
enrolment_deadline_seconds = 600
round_deadline_seconds = 60
credential_seconds = 3600

[model]
layout = "sha256:{"11" * 32}"
initial = "sha256:{"22" * 32}"

[training]
strategy = "scaffold"
local_steps = 10
learning_rate = 0.1
server_learning_rate = 1

[update]
encoding = "float32"
maximum_norm = 100.0

[privacy]
mechanism = "none"

[log]
origin = "{"simulated." if tee == "simulated" else ""}strongroom.example/digits"
cosigners = {quorum}
faulty = 1
{witness_tables(witnesses, required_witnesses)}
[appliance]
{tee_table("appliance.tee", tee)}
{chr(10).join(silos)}'''
