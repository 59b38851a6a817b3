"""``login`` and ``logout`` on a real server: every method, the keyring, and what must not happen."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.bao import BaoServer, running_bao
from support.identity import Issuer, discovery_server, token_review_server
from support.secret_service import PROGRAMS, running_secret_service
from support.stack import BIN, REPO, clean_environ

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(180)]

PASSWORD = "correct-horse-1"
POLICY = 'path "sys/mounts" {capabilities = ["read"]}'
PERSON: dict[str, Any] = {}
TTL = 1200


@dataclass
class Place:
    """A server with login methods, and a user of it without a login."""

    server: BaoServer
    folder: Path
    issuer: Issuer
    environ: dict[str, str] = field(default_factory=dict)

    def cli(self, *words: str, code: int = 0, stdin: str = "", **env: str) -> dict[str, Any]:
        done = self.run(*words, "-o", "json", stdin=stdin, **env)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def run(self, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "skyflowctl"), *words],
            env={**self.environ, **env},
            cwd=self.folder,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def add(self, name: str, *words: str, address: str = "") -> None:
        ca = ["--ca-cert", str(self.server.ca)] if self.server.ca else []
        address = address or self.server.address
        self.cli("context", "add", name, "--address", address, *ca, "--use", *words, "-y")

    def keyring(self) -> str:
        file = self.folder / "keyring.json"
        return file.read_text() if file.exists() else ""

    def is_valid(self, accessor: str) -> bool:
        body = {"accessor": accessor}
        return self.server.api("POST", "auth/token/lookup-accessor", body)[0] == 200


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[BaoServer, Issuer]]:
    issuer = Issuer()
    with (
        running_bao() as server,
        discovery_server(issuer, PERSON) as provider,
        token_review_server() as cluster,
    ):
        set_up(server, issuer, provider, cluster)
        yield server, issuer


def set_up(server: BaoServer, issuer: Issuer, provider: str, cluster: Any) -> None:
    def write(path: str, **body: Any) -> None:
        code, answer = server.api("POST", path, body)
        assert code < 300, (path, answer)

    write("sys/policies/acl/reader", policy=POLICY)
    for name in ("approle", "userpass", "jwt", "oidc", "kubernetes"):
        write(f"sys/auth/{name}", type="jwt" if name == "oidc" else name)
    of_role = {"token_policies": ["reader"], "token_ttl": TTL}
    write("auth/approle/role/app", **of_role)
    write("auth/approle/role/short", token_policies=["reader"], token_ttl=3, token_max_ttl=6)
    write("auth/userpass/users/alice", password=PASSWORD, **of_role)
    write("auth/jwt/config", jwt_validation_pubkeys=[issuer.public])
    jwt = {"role_type": "jwt", "user_claim": "sub", **of_role}
    write("auth/jwt/role/ci", bound_audiences=["https://bao.shop.example"], **jwt)
    write("auth/jwt/role/hub", bound_audiences=["https://github.com/shop"], **jwt)
    write("auth/oidc/config", oidc_discovery_url=provider, oidc_client_id="bao",
          oidc_client_secret="unused")  # fmt: skip
    write("auth/oidc/role/oncall", role_type="oidc", user_claim="sub",
          allowed_redirect_uris=["http://localhost/oidc/callback"], **of_role)  # fmt: skip
    write("auth/kubernetes/config", kubernetes_host=cluster.address,
          kubernetes_ca_cert=cluster.ca, disable_local_ca_jwt=True)  # fmt: skip
    write("auth/kubernetes/role/pod", bound_service_account_names=["order"],
          bound_service_account_namespaces=["shop"], **of_role)  # fmt: skip
    pod = issuer.service_account("shop", "order")
    cluster.accounts[pod] = "shop/order"
    (server.folder / "pod.jwt").write_text(pod)


@pytest.fixture
def place(site: tuple[BaoServer, Issuer], tmp_path: Path) -> Place:
    server, issuer = site
    made = Place(server, tmp_path, issuer)
    made.environ = {
        **clean_environ(),
        "HOME": str(tmp_path),
        "PYTHONPATH": str(REPO / "tests"),
        "PYTHON_KEYRING_BACKEND": "support.file_keyring.FileKeyring",
        "TEST_KEYRING_FILE": str(tmp_path / "keyring.json"),
    }
    return made


def approle(place: Place, role: str = "app") -> tuple[str, ...]:
    """The options of an AppRole login whose secret id is in a file."""
    role_id = place.server.api("GET", f"auth/approle/role/{role}/role-id")[1]["data"]["role_id"]
    made = place.server.api("POST", f"auth/approle/role/{role}/secret-id", {})[1]["data"]
    file = place.folder / "secret-id"
    file.write_text(made["secret_id"])
    file.chmod(0o600)
    return ("--method", "approle", "--role-id", role_id, "--secret", f"file:{file}")


def userpass(place: Place, name: str = "prod") -> dict[str, Any]:
    place.add(name, "--method", "userpass", "--username", "alice", "--secret", "env:PASSWORD")
    return place.cli("login", PASSWORD=PASSWORD)["data"]


def test_a_login_serves_later_commands_until_logout(place):
    made = userpass(place)
    assert (made["user"], made["method"], made["minted"]) == ("userpass-alice", "userpass", True)
    assert set(made["policies"]) == {"default", "reader"}
    assert TTL - 60 < made["ttl"] <= TTL
    assert place.cli("mount", "list")["data"]["mounts"] == []
    (row,) = place.cli("context", "list")["data"]["contexts"]
    assert (row["session"]["state"], row["session"]["user"]) == ("active", "userpass-alice")
    assert place.cli("login", "--status")["data"]["state"] == "active"
    assert place.is_valid(made["accessor"])
    ended = place.cli("logout")["data"]
    assert (ended["result"], ended["revoked"]) == ("removed", "yes")
    assert not place.is_valid(made["accessor"])
    assert json.loads(place.keyring()) == {}
    assert place.cli("login", "--status", code=4)["errors"][0]["code"] == "not-logged-in"
    assert place.cli("logout")["data"]["result"] == "absent"


def test_the_token_is_in_the_keyring_and_nowhere_else(place):
    userpass(place)
    (token,) = json.loads(place.keyring()).values()
    files = [one for one in place.folder.rglob("*") if one.is_file() and one.name != "keyring.json"]
    assert any(one.name == "logins.json" for one in files)
    assert all(token not in one.read_text(errors="replace") for one in files)
    assert all(PASSWORD not in one.read_text(errors="replace") for one in files)


def test_a_given_token_is_used_and_never_revoked(place):
    made = place.server.api("POST", "auth/token/create", {"policies": ["reader"], "ttl": "20m"})
    auth = made[1]["auth"]
    place.add("prod", "--method", "token")
    data = place.cli("login", "--secret", "-", stdin=auth["client_token"] + "\n")["data"]
    assert data["minted"] is False
    place.cli("mount", "list")
    assert place.cli("logout")["data"]["revoked"] == "given"
    assert place.is_valid(auth["accessor"])


def test_a_token_that_the_server_does_not_know_is_not_stored(place):
    place.add("prod", "--method", "token")
    failed = place.cli("login", "--secret", "-", stdin="s.nothing\n", code=4)
    assert failed["errors"][0]["code"] == "cannot-log-in"
    assert place.keyring() == ""
    missing = place.cli("login", code=64)
    assert missing["errors"][0]["code"] == "no-secret"


@pytest.mark.parametrize("method", ["approle", "jwt", "kubernetes", "gitlab", "github"])
def test_a_login_without_a_person(place, method):
    words, env, github = of_method(place, method)
    place.add("prod", *words)
    try:
        made = place.cli("login", **env)["data"]
        assert "reader" in made["policies"]
        place.cli("mount", "list")
        assert place.cli("logout")["data"]["revoked"] == "yes"
        # Without a stored login, each command makes its own and ends it.
        before = accessors(place)
        place.cli("mount", "list", **env)
        assert accessors(place) == before
    finally:
        if github:
            github.shutdown()
            github.server_close()


def accessors(place: Place) -> set[str]:
    return set(place.server.api("LIST", "auth/token/accessors")[1]["data"]["keys"])


def of_method(place: Place, method: str) -> tuple[tuple[str, ...], dict[str, str], Any]:
    """The options, the variables of its environment, and the stand-in of GitHub."""
    if method == "approle":
        return approle(place), {}, None
    if method == "jwt":
        token = place.issuer.gitlab()
        return (
            ("--method", "jwt", "--role", "ci", "--secret", "env:CI_JWT"),
            {"CI_JWT": token},
            None,
        )
    if method == "kubernetes":
        file = place.server.folder / "pod.jwt"
        file.chmod(0o600)
        return ("--method", "kubernetes", "--role", "pod", "--secret", f"file:{file}"), {}, None
    if method == "gitlab":
        return (
            ("--method", "gitlab", "--role", "ci"),
            {"VAULT_ID_TOKEN": place.issuer.gitlab()},
            None,
        )
    server = github_stand_in(place.issuer)
    env = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{server.server_address[1]}/t?v=1",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
    }
    words = ("--method", "github", "--role", "hub", "--audience", "https://github.com/shop")
    return words, env, server


def github_stand_in(issuer: Issuer) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            known = self.headers["authorization"] == "Bearer request-token"
            raw = json.dumps({"value": issuer.github(aud=query["audience"][0])}).encode()
            self.send_response(200 if known else 403)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_a_refused_login_is_4_with_the_servers_reason(place):
    place.add("prod", "--method", "userpass", "--username", "alice", "--secret", "env:PASSWORD")
    failed = place.cli("login", PASSWORD="wrong-secret-1", code=4)
    assert failed["errors"][0]["code"] == "cannot-log-in"
    assert "wrong-secret-1" not in json.dumps(failed)
    assert place.keyring() == ""


BROWSER = """#!{python}
import sys, json, time, urllib.parse, urllib.request
page = sys.argv[1]
asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(page).query))
open({folder!r} + "/asked.json", "w").write(json.dumps(asked))
for _ in range(200):
    try:
        open({folder!r} + "/go")
        break
    except OSError:
        time.sleep(0.05)
back = asked["redirect_uri"].replace("localhost", "127.0.0.1")
for state, path in (("wrong", ""), (asked["state"], "x")):  # a stranger on this machine
    url = back + path + "?" + urllib.parse.urlencode({{"state": state, "code": "evil"}})
    try:
        urllib.request.urlopen(url)
        sys.exit("a stranger's answer was taken")
    except urllib.error.HTTPError as error:
        assert error.code == 404
answer = {answer}
urllib.request.urlopen(back + "?" + urllib.parse.urlencode(answer)).read()
"""


def browser(place: Place, answer: str) -> str:
    """A browser that follows the page once the test says so; for $BROWSER."""
    file = place.folder / "browser"
    file.write_text(BROWSER.format(python=sys.executable, folder=str(place.folder), answer=answer))
    file.chmod(0o755)
    return f"{file} %s"


def wait_for(file: Path) -> str:
    ends = time.monotonic() + 30
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < ends, f"{file.name} did not come"
        time.sleep(0.02)
    return file.read_text()


def start(place: Place, *words: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(BIN / "skyflowctl"), *words, "-o", "json"],
        env={**place.environ, **env},
        cwd=place.folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def as_person(nonce: str) -> None:
    PERSON.clear()
    PERSON.update({"sub": "ann", "aud": "bao", "nonce": nonce})


def test_oidc_with_a_browser(place):
    place.add("prod", "--method", "oidc", "--role", "oncall")
    back = browser(place, '{"state": asked["state"], "code": "any"}')
    started = start(place, "login", BROWSER=back)
    asked = json.loads(wait_for(place.folder / "asked.json"))
    as_person(asked["nonce"])
    (place.folder / "go").touch()
    out, err = started.communicate(timeout=30)
    assert started.returncode == 0, out + err
    assert json.loads(out)["data"]["user"] == "oidc-ann"
    redirect = urllib.parse.urlsplit(asked["redirect_uri"])
    assert (redirect.hostname, redirect.path) == ("localhost", "/oidc/callback")
    assert asked["code_challenge_method"] == "S256"
    place.cli("mount", "list")


def test_oidc_prints_the_page_and_gives_up_in_time(place):
    place.add("prod", "--method", "oidc", "--role", "oncall")
    done = place.run("login", "--no-browser", "--wait", "1s")
    assert done.returncode == 4
    assert "Open this page in a browser" in done.stderr
    assert "/authorize?" in done.stderr
    assert "nobody logged in" in done.stderr


def test_oidc_says_what_the_provider_says(place):
    place.add("prod", "--method", "oidc", "--role", "oncall")
    denied = (
        '{"state": asked["state"], "error": "access_denied", "error_description": "no\\x1b[2J"}'
    )
    started = start(place, "login", BROWSER=browser(place, denied))
    (place.folder / "go").touch()
    out, _ = started.communicate(timeout=30)
    problem = json.loads(out)["errors"][0]
    assert (started.returncode, problem["why"]) == (4, "no[2J")


def test_another_cluster_behind_the_address_never_sees_the_token(place, tmp_path):
    seen: list[str | None] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("X-Vault-Token"))
            raw = json.dumps({"cluster_id": "another", "initialized": True, "sealed": False,
                              "standby": False, "version": "2.7.2"}).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    made = userpass(place)
    other = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        moved_to(place, f"http://127.0.0.1:{other.server_address[1]}")
        for words in (("mount", "list"), ("login", "--status"), ("logout",)):
            failed = place.cli(*words, code=5)
            assert failed["errors"][0]["code"] == "cluster-changed", words
            assert "the token was not sent" in failed["errors"][0]["summary"]
        assert seen
        assert set(seen) == {None}
        assert place.cli("logout", "--forget")["data"]["revoked"] == "no"
        assert json.loads(place.keyring()) == {}
        assert place.is_valid(made["accessor"])
    finally:
        other.shutdown()
        other.server_close()


def test_a_server_that_redirects_elsewhere_gets_no_further(place):
    """It names the login's own cluster, as a balancer does, and then another host."""
    made = userpass(place)
    reached: list[str] = []

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reached.append(self.path)
            self.send_error(500)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    class Redirecting(Stranger):
        def do_GET(self) -> None:
            health = {"cluster_id": made["cluster"], "initialized": True, "sealed": False,
                      "standby": False, "version": "2.7.2"}  # fmt: skip
            raw = json.dumps(health).encode()
            is_health = "/sys/health" in self.path
            self.send_response(200 if is_health else 307)
            self.send_header(
                "location", f"http://127.0.0.1:{stranger.server_address[1]}{self.path}"
            )
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw) if is_health else 0))
            self.end_headers()
            self.wfile.write(raw if is_health else b"")

        do_POST = do_GET

    servers = stranger, redirecting = [
        ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (Stranger, Redirecting)
    ]
    for one in servers:
        threading.Thread(target=one.serve_forever, daemon=True).start()
    try:
        moved_to(place, f"http://127.0.0.1:{redirecting.server_address[1]}")
        for words in (("mount", "list"), ("logout",)):
            failed = place.cli(*words, code=5)
            assert failed["errors"][0]["code"] == "redirect-refused", words
        assert reached == []
        assert len(json.loads(place.keyring())) == 1
    finally:
        for one in servers:
            one.shutdown()
            one.server_close()


def moved_to(place: Place, address: str) -> None:
    """Let another server answer at the login's address: both files name the new one instead."""
    ring = place.folder / "keyring.json"
    for file in (place.folder / ".config/skyflowctl/contexts.json",
                 place.folder / ".local/state/skyflowctl/logins.json", ring):  # fmt: skip
        file.write_text(file.read_text().replace(place.server.address, address))


def test_a_server_that_does_not_answer_leaves_the_login_as_it_is(place):
    made = userpass(place)
    moved_to(place, "http://127.0.0.1:9")
    failed = place.cli("logout", code=69, BAO_MAX_RETRIES="0")["errors"][0]
    assert failed["code"] == "not-logged-out"
    assert made["expires_at"] in failed["why"]
    assert "--forget" in failed["fix"]
    assert len(json.loads(place.keyring())) == 1
    assert place.cli("context", "list")["data"]["contexts"][0]["session"]["state"] == "active"


def test_the_token_serves_no_address_from_the_environment_or_a_flag(place):
    userpass(place)
    named = {"BAO_ADDR": place.server.address, "BAO_CACERT": str(place.server.ca or "")}
    assert place.cli("mount", "list", code=4, **named)["errors"][0]["code"] == "no-token"
    flags = ("--address", place.server.address)
    ca = ("--ca-cert", str(place.server.ca)) if place.server.ca else ()
    assert place.cli("mount", "list", *flags, *ca, code=4)["errors"][0]["code"] == "no-token"


def test_a_token_of_another_context_is_not_used(place):
    userpass(place, "one")
    place.add("two")
    failed = place.cli("mount", "list", code=4)["errors"][0]
    assert (failed["code"], failed["why"]) == ("no-token", "the context has no login")


def test_a_context_with_a_login_is_not_removed(place):
    userpass(place)
    assert place.cli("context", "remove", "prod", "-y", code=5)["errors"][0]["code"] == "logged-in"
    place.cli("logout")
    place.cli("context", "remove", "prod", "-y")


def test_two_terminals_log_in_at_once(place):
    place.add("prod", "--method", "userpass", "--username", "alice", "--secret", "env:PASSWORD")
    both = [start(place, "login", PASSWORD=PASSWORD) for _ in range(3)]
    made = [json.loads(one.communicate(timeout=60)[0])["data"] for one in both]
    records = json.loads((place.folder / ".local/state/skyflowctl/logins.json").read_text())
    (record,) = records["logins"]
    assert record["accessor"] in {one["accessor"] for one in made}
    place.cli("mount", "list")
    assert place.cli("login", "--status")["data"]["accessor"] == record["accessor"]


@pytest.mark.parametrize(
    "backend", ["keyring.backends.fail.Keyring", "keyring.backends.null.Keyring", "no.such.Keyring"]
)
def test_no_keyring_is_said_before_a_token_is_made(place, backend):
    place.add("prod", "--method", "userpass", "--username", "alice", "--secret", "env:PASSWORD")
    before = accessors(place)
    failed = place.cli("login", PASSWORD=PASSWORD, PYTHON_KEYRING_BACKEND=backend, code=5)
    assert failed["errors"][0]["code"] == "no-keyring"
    for way in ("BAO_TOKEN", "token helper", "--token-file", "each command"):
        assert way in failed["errors"][0]["fix"], way
    assert accessors(place) == before
    # It takes no person, so each command makes its own login, without a keyring.
    place.cli("mount", "list", PASSWORD=PASSWORD, PYTHON_KEYRING_BACKEND=backend)
    assert accessors(place) == before


def test_a_token_is_renewed_and_made_again_while_a_command_runs(place):
    """The role's tokens live 3 s, and 6 s at most; the command runs for 9."""
    place.add("prod", *approle(place, "short"))
    place.cli("login")
    code = (
        "import sys, time\n"
        "from support.login import session\n"
        "with session('prod') as gateway:\n"
        "    ends = time.monotonic() + 9\n"
        "    while time.monotonic() < ends:\n"
        "        gateway.sys.display_name()\n"
        "        time.sleep(0.2)\n"
        "print('served')\n"
    )
    before = accessors(place)
    done = subprocess.run(
        [sys.executable, "-c", code], env=place.environ, cwd=place.folder,
        text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "served\n", done.stderr
    assert accessors(place) <= before  # what was made again ended with the command


@pytest.mark.needs(*PROGRAMS)
def test_the_real_secret_service_keeps_the_token(place):
    real = {name: value for name, value in place.environ.items() if "KEYRING" not in name}
    with running_secret_service(place.folder) as service:
        place.environ = {**real, **service}
        made = userpass(place)
        place.cli("mount", "list")
        assert place.cli("login", "--status")["data"]["accessor"] == made["accessor"]
        token = place.server.api("POST", "auth/token/lookup-accessor",
                                 {"accessor": made["accessor"]})[0]  # fmt: skip
        assert token == 200
        assert place.cli("logout")["data"]["revoked"] == "yes"
        assert not place.is_valid(made["accessor"])
        assert place.cli("login", "--status", code=4)["errors"][0]["code"] == "not-logged-in"


@pytest.mark.needs(*PROGRAMS)
def test_a_locked_secret_service_is_said_and_the_new_token_is_revoked(place):
    real = {name: value for name, value in place.environ.items() if "KEYRING" not in name}
    with running_secret_service(place.folder, unlocked=False) as service:
        place.environ = {**real, **service}
        place.add("prod", "--method", "userpass", "--username", "alice", "--secret", "env:PASSWORD")
        before = accessors(place)
        failed = place.cli("login", PASSWORD=PASSWORD, code=5)["errors"][0]
        assert failed["code"] == "no-keyring"
        assert accessors(place) == before
