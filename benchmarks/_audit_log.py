"""Writes synthetic audit logs of the real shape: half of the entries ask for tokens.

Several mounts, roles and apps over some days, busier by day than by night; the other half
are logins, reads of other secrets and the server's own paths. Seeded: the same arguments
write the same bytes. About 5 s a GB.

    python benchmarks/_audit_log.py FILE --size 1G [--seed 1] [--plain]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

MOUNTS = ("order", "purchase", "payment", "shipping")
ROLES_A_MOUNT = 4
APPS = 24
CTXS = 5_000
DAYS = 7
START = datetime(2026, 11, 16, tzinfo=UTC)
PAIR_BYTES = 2_900
KEY_ID = "cf10e8df89c8770a3bc3466bdab4ea1e"
"""Of a request and its response, about; only spreads the entries over the days."""

Render = Callable[[dict[str, object]], bytes]


def digest(text: str, device: str = "a") -> str:
    """What the device writes instead of a text."""
    return "hmac-sha256:" + hashlib.sha256(f"{device}:{text}".encode()).hexdigest()


def write_log(
    path: Path, size: int, *, seed: int = 1, plain: bool = False, device: str = "a"
) -> int:
    """Write a log of at least ``size`` bytes; returns how many creds requests it holds.

    Args:
        path: the file.
        size: in bytes.
        seed: same seed, same requests: two devices' logs differ only in their hashes.
        plain: ctx stands in plain.
        device: salt of the hashes.
    """
    asked = 0
    written = 0
    with path.open("wb", buffering=1 << 20) as out:
        for pair, is_creds in _pairs(size, random.Random(seed), plain, device):
            out.write(pair)
            written += len(pair)
            asked += is_creds
            if written >= size:
                break
    return asked


def _pairs(size: int, rng: random.Random, plain: bool, device: str) -> Iterator[tuple[bytes, bool]]:
    apps = _apps(device)
    texts = [f"order:{number}" for number in range(CTXS)]
    ctxs = texts if plain else [digest(text, device) for text in texts]
    others = [_template(entry) for entry in _other_shapes()]
    granted, denied = _template(_creds_shape("granted")), _template(_creds_shape("denied"))
    login = _template(_login_shape())
    bearers = [digest(f"bearer{number}", device) for number in range(1000)]
    for number, (request, response) in enumerate(_clock(size, rng)):
        app = apps[int(rng.random() ** 2 * APPS)]
        values: dict[str, object] = {**app, "id": number, "time": request, "after": response}
        if number % 2:
            role = int(rng.random() ** 2 * ROLES_A_MOUNT)
            values["role"] = f"{app['mount']}-role-{role}"
            values["ctx"] = ctxs[int(rng.random() ** 3 * CTXS)]
            values["bearer"] = bearers[number % 1000]
            yield (denied if rng.random() < 0.01 else granted)(values), True
        elif rng.random() < 0.1:
            yield login(values), False
        else:
            yield rng.choice(others)(values), False


def _clock(size: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield the times of request and response, over some days, rarer by night."""
    step = DAYS * 86_400 / (size / PAIR_BYTES)
    now = 0.0
    while True:
        hour = int(now / 3600) % 24
        now += rng.expovariate(1) * step * (0.6 if 7 <= hour < 19 else 3.0)
        whole = (START + timedelta(seconds=int(now))).strftime("%Y-%m-%dT%H:%M:%S")
        nanos = int((now % 1) * 900_000_000)
        yield f"{whole}.{nanos:09d}Z", f"{whole}.{nanos + 9_123_457:09d}Z"


def _apps(device: str) -> list[dict[str, object]]:
    return [
        {
            "app": f"app-{number:02d}",
            "mount": MOUNTS[number % len(MOUNTS)],
            "token": digest(f"token{number}", device),
            "accessor": digest(f"accessor{number}", device),
            "entity": f"6391df83-8aa4-597a-fdf4-{number:012d}",
        }
        for number in range(APPS)
    ]


def _template(pair: tuple[dict[str, object], dict[str, object]]) -> Render:
    """Turn entries into a template: @name@ in a text stands for a value."""
    lines = [json.dumps(entry, separators=(",", ":")) for entry in pair]
    text = "\n".join(lines).replace("%", "%%") + "\n"
    for name in ("time", "after", "app", "mount", "token", "accessor", "entity", "role", "ctx",
                 "bearer"):  # fmt: skip
        text = text.replace(f"@{name}@", f"%({name})s")
    text = text.replace("@id@", "%(id)08x-6dff-8f71-eb8e-%(id)012x")
    return lambda values: (text % values).encode()


def _auth(allowed: bool = True) -> dict[str, object]:
    granting = [{"name": "@app@-policy", "namespace_id": "root", "type": "acl"}]
    return {
        "client_token": "@token@",
        "accessor": "@accessor@",
        "display_name": "approle",
        "policies": ["default", "@app@-policy"],
        "token_policies": ["default", "@app@-policy"],
        "policy_results": {"allowed": True, "granting_policies": granting}
        if allowed
        else {"allowed": False},
        "metadata": {"role_name": "@app@"},
        "entity_id": "@entity@",
        "token_type": "service",
        "token_ttl": 2764800,
        "token_issue_time": "2026-11-16T00:00:00Z",
    }


def _request(operation: str, point: str, kind: str, path: str, **more: object) -> dict[str, object]:
    return {
        "id": "@id@",
        "client_id": "@entity@",
        "operation": operation,
        "mount_point": point,
        "mount_type": kind,
        "mount_accessor": f"{kind}_53f14e83",
        "mount_running_version": "v1.0.0",
        "mount_running_sha256": "e5b0868d15076efdd3ad76fc13743ec20ac68e6528e8e38aa5f5216d38bc7923",
        "mount_class": "auth" if point.startswith("auth/") else "secret",
        "mount_is_external_plugin": kind == "skyflow",
        "client_token": "@token@",
        "client_token_accessor": "@accessor@",
        "namespace": {"id": "root"},
        "path": path,
        **more,
        "remote_address": "10.0.3.17",
        "remote_port": 34680,
    }


def _pair(
    auth: dict[str, object],
    request: dict[str, object],
    response: dict[str, object],
    error: str = "",
) -> tuple[dict[str, object], dict[str, object]]:
    failed = {"error": error} if error else {}
    mount = {"mount_point": request["mount_point"], "mount_type": request["mount_type"]}
    first = {"time": "@time@", "type": "request", "auth": auth, "request": request, **failed}
    second = {
        "time": "@after@",
        "type": "response",
        "auth": auth,
        "request": request,
        # A server writes the issued token first.
        "response": {"auth": None, **mount, "mount_class": "secret", **response}
        if "auth" in response
        else {**mount, "mount_class": "secret", **response},
        **failed,
    }
    return first, second


def _creds_shape(outcome: str) -> tuple[dict[str, object], dict[str, object]]:
    request = _request(
        "read",
        "skyflow/@mount@/",
        "skyflow",
        "skyflow/@mount@/creds/@role@",
        data={"ctx": "@ctx@"},
        headers={"application-source": ["@app@"]},
    )
    if outcome == "denied":
        error = "1 error occurred:\n\t* permission denied\n\n"
        return _pair(_auth(allowed=False), request, {"data": {"error": digest("no")}}, error)
    data = {
        "access_token": "@bearer@",
        "credential_version": 1,
        "expires_at": "@after@",
        "key_id": KEY_ID,
        "token_type": digest("Bearer"),
        "ttl": 3599,
    }
    return _pair(_auth(), request, {"data": data})


def _login_shape() -> tuple[dict[str, object], dict[str, object]]:
    request = _request(
        "update",
        "auth/approle/",
        "approle",
        "auth/approle/login",
        data={"role_id": digest("role"), "secret_id": digest("secret")},
    )
    auth = {key: value for key, value in _auth().items() if key != "policy_results"}
    return _pair(auth, request, {"auth": auth})


def _other_shapes() -> list[tuple[dict[str, object], dict[str, object]]]:
    secret = {f"field{number}": digest(f"field{number}") for number in range(6)}
    kv = _request("read", "kv/", "kv", "kv/data/@app@/settings")
    lookup = _request("read", "auth/token/", "token", "auth/token/lookup-self")
    mounts = _request("read", "sys/", "system", "sys/mounts")
    health = _request("read", "skyflow/@mount@/", "skyflow", "skyflow/@mount@/health")
    return [
        _pair(_auth(), kv, {"data": {"data": secret, "metadata": {"version": 3}}}),
        _pair(_auth(), kv, {"data": {"data": secret, "metadata": {"version": 4}}}),
        _pair(_auth(), lookup, {"data": secret}),
        _pair(_auth(), mounts, {"data": {"skyflow/": {"type": digest("skyflow")}}}),
        _pair(_auth(), health, {"data": {"healthy": True, "key_id": "cf10e8df"}}),
    ]


def main() -> None:
    """Write one log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--size", default="100M", help="with K, M or G")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="ctx stands in plain")
    parser.add_argument("--device", default="a", help="salt of the hashes")
    args = parser.parse_args()
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(args.size[-1].upper(), 0)
    size = int(float(args.size[:-1]) * unit) if unit else int(args.size)
    asked = write_log(args.file, size, seed=args.seed, plain=args.plain, device=args.device)
    print(f"{args.file}: {args.file.stat().st_size} bytes, {asked} creds requests")


if __name__ == "__main__":
    main()
