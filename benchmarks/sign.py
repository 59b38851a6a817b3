"""``sign`` in batches of 64 through a real server, against the bare RSA signatures.

    python benchmarks/sign.py [ROUNDS]

A batch is one request for 64 data tokens. Its CPU is that of the plugin's process. The peer is
64 signatures (RS256, 2,048 bits) of texts of the same length with the same key by the
``cryptography`` library, in the CPU time of this process. Each round measures both.
"""

import json
import sys
import time

from _compare import Ratio, cpu_seconds, in_turns, judge, rounds_wanted, show_medians
from _engine_site import FAST, OURS
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support.bao import BaoServer, running_bao
from support.fixed_tokens import fixed_tokens
from support.loaded import mount, register_ours
from support.plugin import processes_of

BATCH = 64
BATCHES = 15
"""Requests of one measurement: enough for a third of a second of CPU."""
AT_LEAST = 0.75
PREFIX = "signed_token_"
DATA_TOKENS = [f"5f3ac1d0-93b2-4a7e-8b1c-{number:012d}" for number in range(BATCH)]


def signed(server: BaoServer, path: str) -> list[str]:
    """Ask for one batch: the signed data tokens, which must be in order."""
    status, body = server.api("POST", path, {"data_tokens": DATA_TOKENS})
    answers = body["data"]["signed_data_tokens"] if status == 200 else []
    if [one["data_token"] for one in answers] != DATA_TOKENS:
        raise SystemExit(f"{path}: {status} {body}")
    return [one["signed_data_token"] for one in answers]


def engine_rate(server: BaoServer, path: str) -> float:
    """Signed data tokens for one CPU second of the plugin's process."""
    plugins = [one.pid for one in processes_of(server, OURS)]
    before = cpu_seconds(plugins)
    for _ in range(BATCHES):
        signed(server, path)
    return BATCH * BATCHES / (cpu_seconds(plugins) - before)


def bare_rate(key: RSAPrivateKey, content: bytes) -> float:
    """Signatures of this content for one CPU second of this process."""
    before = time.process_time()
    for _ in range(BATCH * BATCHES):
        key.sign(content, PKCS1v15(), SHA256())
    return BATCH * BATCHES / (time.process_time() - before)


def main() -> int:
    """Measure; return 1 when the limit is missed."""
    with fixed_tokens((0,)) as tokens, running_bao() as server:
        register_ours(server, tokens)
        credentials = tokens.credentials(0)
        mount(server, f"{OURS}/{FAST}", credentials)
        path = f"{OURS}/{FAST}/sign/reader"
        content = signed(server, path)[0].removeprefix(PREFIX).rpartition(".")[0].encode()
        key = load_pem_private_key(json.loads(credentials)["privateKey"].encode(), None)
        assert isinstance(key, RSAPrivateKey)
        cases = {
            "sign, batches of 64": lambda: engine_rate(server, path),
            "bare signatures": lambda: bare_rate(key, content),
        }
        found = in_turns(cases, rounds_wanted(21))
    show_medians("signatures for one CPU second", found)
    ours, bare = found.values()
    return judge("sign / bare signatures", [Ratio("rate for CPU", ours, bare, at_least=AT_LEAST)])


if __name__ == "__main__":
    sys.exit(main())
