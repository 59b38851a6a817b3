"""The check of a key: every damaged part is found, and a good key costs about a millisecond."""

from __future__ import annotations

import math
import time
from base64 import encodebytes

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support.keys import pkcs1, pkcs8, rsa_key

from skyflowctl.secret import Secret
from skyflowctl.skyflow import signing_key
from skyflowctl.skyflow.signing_key import InvalidKeyError, SigningKey

PARTS = ("n", "e", "d", "p", "q", "dmp1", "dmq1", "iqmp")


def parts_of(key: rsa.RSAPrivateKey) -> dict[str, int]:
    own = key.private_numbers()
    public = {"n": own.public_numbers.n, "e": own.public_numbers.e}
    return public | {name: getattr(own, name) for name in PARTS[2:]}


def from_factors(p: int, q: int, e: int = 65537) -> dict[str, int]:
    """A key's parts as they follow from its factors, prime or not."""
    d = pow(e, -1, math.lcm(p - 1, q - 1))
    crt = {"dmp1": d % (p - 1), "dmq1": d % (q - 1), "iqmp": pow(q, -1, p)}
    return {"n": p * q, "e": e, "d": d, "p": p, "q": q} | crt


def pem_of(parts: dict[str, int]) -> Secret:
    """The PKCS#1 text of these numbers, whatever they are: no library makes it."""
    body = b"".join(_der(2, _signed(number)) for number in (0, *(parts[n] for n in PARTS)))
    text = encodebytes(_der(0x30, body)).decode()
    return Secret(f"-----BEGIN RSA PRIVATE KEY-----\n{text}-----END RSA PRIVATE KEY-----\n")


def _signed(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def refused(parts: dict[str, int]) -> str:
    with pytest.raises(InvalidKeyError) as caught:
        SigningKey.parse(pem_of(parts))
    text = str(caught.value)
    # Nothing of the key is in the error, whatever was wrong with it.
    assert not [number for number in parts.values() if number > 10**6 and str(number) in text]
    return caught.value.code


def test_a_good_key_passes_in_both_forms():
    key = rsa_key()
    assert SigningKey.parse(pem_of(parts_of(key))).bits == 2048
    assert SigningKey.parse(Secret(pkcs8(key))).to_pem().reveal() == pkcs8(key)
    # A key whose d was computed with (p-1)(q-1) instead of their least common multiple.
    parts = parts_of(key)
    phi = (parts["p"] - 1) * (parts["q"] - 1)
    assert SigningKey.parse(pem_of(parts | {"d": pow(parts["e"], -1, phi)}))


DAMAGE = {
    "one bit": lambda number: number ^ (1 << 77 if number > 1 << 80 else 2),
    "top byte": lambda number: number ^ (0x55 << max(0, number.bit_length() - 9)),
    "plus two": lambda number: number + 2,
    "cut": lambda number: number >> 8,
    "zero": lambda number: 0,
    "one": lambda number: 1,
    "negative": lambda number: -number,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("part", PARTS)
def test_every_damaged_part_is_found(part, how):
    parts = parts_of(rsa_key())
    damaged = parts | {part: DAMAGE[how](parts[part])}
    assert damaged[part] != parts[part]
    assert refused(damaged) in {"key-broken", "key-too-small", "key-too-large"}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_another_key_is_found(part):
    parts, other = parts_of(rsa_key()), parts_of(rsa_key("second"))
    if part == "e":
        other["e"] = 3
    assert refused(parts | {part: other[part]}) == "key-broken"


@pytest.mark.parametrize("part", ["d", "dmp1", "dmq1", "iqmp"])
def test_a_part_that_is_right_only_by_its_remainder_is_found(part):
    """The other clients of such a key read each number as it stands."""
    parts = parts_of(rsa_key())
    period = {"d": parts["n"], "dmp1": parts["p"] - 1, "dmq1": parts["q"] - 1, "iqmp": parts["p"]}
    assert refused(parts | {part: parts[part] + period[part]}) == "key-broken"


def test_swapped_factors_are_found():
    parts = parts_of(rsa_key())
    assert refused(parts | {"p": parts["q"], "q": parts["p"]}) == "key-broken"


def test_two_equal_factors_are_found():
    p = parts_of(rsa_key())["p"]
    d = pow(65537, -1, p * (p - 1))
    crt = {"dmp1": d % (p - 1), "dmq1": d % (p - 1), "iqmp": 1}
    assert refused({"n": p * p, "e": 65537, "d": d, "p": p, "q": p} | crt) == "key-broken"


def test_an_even_modulus_is_found():
    parts = parts_of(rsa_key())
    assert refused(parts | {"n": parts["n"] + 1}) == "key-broken"
    p = parts["p"] * parts["q"]
    even = {"n": 2 * p, "e": 65537, "d": parts["d"], "p": p, "q": 2}
    assert refused(even | {"dmp1": parts["d"], "dmq1": 0, "iqmp": 1}) in {
        "key-broken",
        "key-too-large",
    }


@pytest.mark.parametrize("factors", ["two primes", "square", "one prime more"])
def test_a_composite_factor_is_found_by_the_signature(factors):
    """All parts follow from p and q, and yet p is no prime: it does not sign rightly."""
    first, second = parts_of(rsa_key()), parts_of(rsa_key("second"))
    p = {
        "two primes": second["p"] * second["q"],
        "square": second["p"] ** 2,
        "one prime more": second["p"] * 65539,
    }[factors]
    parts = from_factors(p, first["q"])
    assert parts["n"] == parts["p"] * parts["q"]
    assert refused(parts) == "key-broken"


@pytest.mark.parametrize(("bits", "code"), [(1024, "key-too-small"), (2047, "key-too-small")])
def test_a_key_of_a_wrong_size_is_refused(bits, code):
    assert refused(parts_of(rsa_key("odd", bits))) == code


def test_the_accepted_sizes():
    for bits in (2048, 3072):
        assert SigningKey.parse(Secret(pkcs1(rsa_key("sizes", bits)))).bits == bits
    giant = from_factors((1 << 4423) - 1, (1 << 3217) - 1)
    started = time.process_time()
    assert refused(giant) == "key-too-large"
    assert time.process_time() - started < 1


def test_the_check_is_many_times_faster_than_a_proof_of_primality():
    """Nine tenths of a plan with 100 keys were such proofs (36 ms each, against 1)."""
    key = Secret(pkcs8(rsa_key()))
    data = key.reveal().encode()
    SigningKey.parse(key)

    def least(work):
        times = []
        for _ in range(5):
            started = time.process_time()
            work()
            times.append(time.process_time() - started)
        return min(times)

    def check() -> None:
        signing_key._PROVEN.clear()
        SigningKey.parse(key)

    ours = least(check)
    assert ours < least(lambda: load_pem_private_key(data, password=None)) / 5


def test_the_same_text_is_checked_once_and_a_damaged_one_every_time(monkeypatch):
    """An apply reads each credential for the plan, and again for the write."""
    monkeypatch.setattr(signing_key, "_PROVEN", set())
    checks: list[object] = []
    agree = signing_key._parts_agree
    monkeypatch.setattr(signing_key, "_parts_agree", lambda key: checks.append(key) or agree(key))
    parts = parts_of(rsa_key())
    assert SigningKey.parse(pem_of(parts)).sign(b"a") == SigningKey.parse(pem_of(parts)).sign(b"a")
    assert len(checks) == 1
    damaged = parts | {"d": parts["d"] + 2}
    assert [refused(damaged) for _ in range(2)] == ["key-broken"] * 2
    assert len(checks) == 3
