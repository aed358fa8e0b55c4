"""What whoever holds a content key can do to a sealed segment: GCM commits to no key and no message."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def other_segment_under_the_same_tag(
    data: bytes, place: int, key: bytes, *, segment: int, last: bool, wanted: bytes
) -> bytes:
    """The blob with another ciphertext at `place`, under the same key, nonce and tag.

    Its first plaintext block is `wanted` (16 bytes), or very nearly; the second is what follows. GHASH is linear: Δ₀ on
    the first block is made up for by Δ₁ = Δ₀ · H on the second. Low bits of `wanted` are varied until the second block,
    as float32, is finite.
    """
    nonce = segment.to_bytes(11, "big") + bytes([last])
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    subkey = int.from_bytes(block.update(bytes(16)), "big")
    stream = [int.from_bytes(block.update(nonce + counter.to_bytes(4, "big")), "big") for counter in (2, 3)]
    old = [int.from_bytes(data[place + offset : place + offset + 16], "big") for offset in (0, 16)]
    for variation in range(256):
        delta = old[0] ^ stream[0] ^ int.from_bytes(bytes([wanted[0] ^ variation]) + wanted[1:], "big")
        new = [old[0] ^ delta, old[1] ^ _multiply(delta, subkey)]
        second = np.frombuffer((new[1] ^ stream[1]).to_bytes(16, "big"), "<f4")
        if (np.abs(second) < 1e15).all():
            return data[:place] + b"".join(value.to_bytes(16, "big") for value in new) + data[place + 32 :]
    raise AssertionError("expected one of 256 variations to be finite")


def _multiply(left: int, right: int) -> int:
    """GF(2^128) as GCM writes it (SP 800-38D, algorithm 1)."""
    product = 0
    for bit in range(127, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (0xE1 << 120 if right & 1 else 0)
    return product
