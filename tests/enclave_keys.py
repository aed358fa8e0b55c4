"""An enclave's private keys, as far as the operator of a simulated TEE can lay hands on them: to be searched for.

The state key follows from what ships in the package, and what the sealed state holds from that. X25519 and Ed25519 keys
lie, in OpenSSL, behind a pointer beside their public halves, which the log tells: whatever 32 bytes are found there are
tried. Of a sealing key that is one half of two; ML-KEM's is not found so, nor is the authority's P-256 key.
"""

import struct
from collections.abc import Callable, Iterator, Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from process_federation import ProcessFederation
from process_search import memory_at, occurrences

from appliance.enclave.sealed_state import StateVault
from attestation.collect.measurement import installed_code, measure
from attestation.collect.platform import SimulatedPlatform
from attestation.encoding import labelled
from audit.entries import ApplianceStarted, RoundOpened, RoundPublished
from audit.store import DirectoryStore

_KEY_BYTES = 32
_AROUND_BYTES = 256


def of_the_state(made: ProcessFederation) -> dict[str, bytes]:
    """State key, log key, and the content keys of the newest published bodies."""
    agreement, origin = made.agreement.digest, made.agreement.log.origin
    sealing_key = SimulatedPlatform(measure(installed_code())).sealing_key()
    info = labelled("strongroom/state/v1", agreement, origin.encode())
    store = DirectoryStore(made.store)
    vault = StateVault(store=store, sealing_key=sealing_key, agreement=agreement, origin=origin, random=bytes)
    state = vault.load(made.entries(RoundPublished)[-1].state)
    store.close()
    keys = {
        "state key": HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(sealing_key),
        "log key": state.log_seed,
    }
    bodies = {"model's content key": state.model, "control's content key": state.control}
    return keys | {name: body.key for name, body in bodies.items() if body is not None}


def of_the_boot(made: ProcessFederation, pid: int) -> dict[str, bytes]:
    """This boot's signing key, and the X25519 halves of its sealing key and of the newest round's key."""
    keys, opened = made.entries(ApplianceStarted)[-1].keys, made.entries(RoundOpened)[-1]
    wanted = {
        "signing key": (keys.signing, _ed25519),
        "half the sealing key": (keys.sealing[-_KEY_BYTES:], _x25519),
        "half the round key": (opened.round_key[-_KEY_BYTES:], _x25519),
    }
    return dict(_lift(pid, wanted))


def _lift(pid: int, wanted: Mapping[str, tuple[bytes, Callable[[bytes], bytes]]]) -> Iterator[tuple[str, bytes]]:
    for name, (public, public_of) in wanted.items():
        for address in occurrences(pid, public):
            around = memory_at(pid, address - _AROUND_BYTES, 2 * _AROUND_BYTES + _KEY_BYTES)
            pointers = {struct.unpack_from("<Q", around, at)[0] for at in range(len(around) - 7)}
            found = (memory_at(pid, pointer, _KEY_BYTES) for pointer in pointers if 2**12 < pointer < 2**47)
            for candidate in found:
                if len(candidate) == _KEY_BYTES and public_of(candidate) == public:
                    yield name, candidate


def _ed25519(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _x25519(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
