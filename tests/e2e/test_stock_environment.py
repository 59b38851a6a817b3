"""E1, cases 10, 11, 12 and 15: the same environment for ``bao`` and for skyflowctl."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from support.bao import BaoServer, bao_binary
from support.cli import checked_envelope, invoke
from support.client_libraries import client_library  # noqa: F401 - runs all tests twice
from support.scripted import Answer, Seen, scripted

from skyflowctl.doctor.machine import check_environment
from skyflowctl.errors import UsageError
from skyflowctl.secret import Secret
from skyflowctl.vault.client_settings import RateLimit, client_timeout, rate_limit
from skyflowctl.vault.environment import VARIABLES
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.target import Target, TargetFlags, resolve_target
from skyflowctl.vault.tls import tls_context

pytestmark = pytest.mark.real_server

# Read by the server, the agent, the proxy, a plugin, a test or another command of bao.
OF_OTHERS = frozenset(
    """
ACC AGENT_CONFIG_PATH AGENT_DISABLE_IDLE_CONNECTIONS AGENT_DISABLE_KEEP_ALIVES ADVERTISE_ADDR
ALLOW_PENDING_REMOVAL_MOUNTS API_ADDR BACKEND_PLUGIN BINARY CLUSTER_ADDR
CLUSTER_TLS_SESSION_LOG_LEVEL DATABASE_PLUGIN DEV_LISTEN_ADDRESS DEV_ROOT_TOKEN_ID DEV_TEMP_DIR
DISABLE_KV_GAUGE DISABLE_LOCAL_AUTH_MOUNT_ENTITIES DISABLE_PUBLIC_ACME DISABLE_USER_LOCKOUT
ENABLE_FILE_PERMISSIONS_CHECK GRPC_LOGGING GRPC_MAX_STREAMS INMEM_LOG_ALL_OPS
INTERACTIVE_DEMO_SERVER K8S_AUTH_ROLE_NAME K8S_NAMESPACE K8S_POD_NAME K8S_SERVICE_ACCOUNT_TOKEN
K8S_SERVICE_ACCOUNT_TOKEN_PATH K8S_SERVICE_MOUNT_PATH KMIP_CA_CERT KMIP_CLIENT_CERT
KMIP_CLIENT_KEY KMIP_ENCRYPT_ALG KMIP_ENDPOINT KMIP_SERVER_NAME KMIP_TIMEOUT
KMIP_TLS12_CIPHERS KMIP_WRAPPER_KEY_ID KMIP_SEAL_KEY_ID KMS_PLUGIN LDAP_PASSWORD
LEASE_REVOCATION_WORKERS LOG_FORMAT LOG_LEVEL MIGRATE_CONFIG_PATH PG_CONNECTION_URL
PLUGIN_AUTOMTLS_ENABLED PLUGIN_METADATA_MODE PLUGIN_MLOCK_ENABLED PLUGIN_MULTIPLEXING_OPT_OUT
POSTUNSEAL_FUNC_CONCURRENCY POSTUNSEAL_FUNC_CURRENCY PPROF_FILE_PATH PPROF_WRITE_TO_FILE
PROXY_CONFIG_PATH PROXY_DISABLE_IDLE_CONNECTIONS PROXY_DISABLE_KEEP_ALIVES
RAFT_AUTOPILOT_DISABLE RAFT_DISABLE_MAP_POPULATE RAFT_FREELIST_SYNC RAFT_FREELIST_TYPE
RAFT_INITIAL_MMAP_SIZE RAFT_NODE_ID RAFT_PATH RAFT_RETRY_JOIN_AS_NON_VOTER REDIRECT_ADDR
RENEW_TOKEN ROLLBACK_WORKERS SEAL_TYPE SKIP_LOGGING_LEASE_EXPIRATIONS SSH_EXECUTABLE
SSH_HOST_KEY_HOSTNAMES SSH_HOST_KEY_MOUNT_POINT SSH_STRICT_HOST_KEY_CHECKING
SSH_USER_KNOWN_HOSTS_FILE STACKTRACE_FILE_PATH STACKTRACE_WRITE_TO_FILE
STATIC_SEAL_CURRENT_KEY STATIC_SEAL_CURRENT_KEY_ID STATIC_SEAL_PREVIOUS_KEY
STATIC_SEAL_PREVIOUS_KEY_ID TEST_LOG_DIR TEST_VERIFY_ONLY_DUMP_CONFIG TRANSIT_SEAL_ADDR
TRANSIT_SEAL_DISABLE_RENEWAL TRANSIT_SEAL_KEY_NAME TRANSIT_SEAL_MOUNT_PATH TRANSIT_SEAL_TOKEN UI
UNWRAP_TOKEN VERSION
""".split()  # noqa: SIM905 - a hundred lines else
)
# What the linker put right behind a name.
_JUNK = re.compile(r"[A-Z]?|2006|GNU|TRANSIT_WRAPPER_DISABLE_RENEWAL")


def names_in_binary() -> set[str]:
    """Every text of the form BAO_X or VAULT_X in the stock client, cut at the next one."""
    found: set[str] = set()
    with (
        Path(bao_binary()).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw,
    ):
        for match in re.finditer(rb"(?:BAO|VAULT)_[A-Z][A-Z0-9_]{1,200}", raw):
            found.update(
                re.split(r"(?<=[A-Z0-9])(?:BAO|VAULT)_|^(?:BAO|VAULT)_", match[0].decode())
            )
    return found - {""}


def test_e1_the_table_has_every_name_that_the_stock_client_reads():
    ours = {one.name for one in VARIABLES}
    texts = names_in_binary()
    missing = {name for name in ours if not any(text.startswith(name) for text in texts)}
    assert missing == set()
    known = ours | OF_OTHERS

    def explained(text: str) -> bool:
        return any(
            text.startswith(name) and _JUNK.fullmatch(text[len(name) :]) is not None
            for name in known
        )

    assert {text for text in texts if not explained(text)} == set()
    assert ours & OF_OTHERS == set()


@pytest.mark.parametrize("prefix", ["BAO_", "VAULT_"])
def test_doctor_takes_no_name_of_a_server_or_an_agent_for_a_misspelt_one(prefix):
    environ = {"HOME": "/nowhere", **{f"{prefix}{name}": "x" for name in OF_OTHERS}}
    told = [one.summary for one in check_environment(environ, ())]
    assert told == ["no BAO_ or VAULT_ variable is set"]


def test_e1_the_table_has_every_name_in_the_stock_clients_help():
    shown = subprocess.run([bao_binary(), "read", "-h"], capture_output=True, text=True, timeout=60)
    named = set(re.findall(r"BAO_([A-Z_]+)", shown.stdout))
    assert {"ADDR", "CACERT", "NAMESPACE"} <= named
    assert named <= {one.name for one in VARIABLES}


# Case 10: the settings file with the token helper.

FORMS = {
    "plain": 'token_helper = "{helper}"\n',
    "a comment behind it": 'token_helper = "{helper}" # keychain\n',
    "another comment behind it": 'token_helper = "{helper}" // x\n',
    "JSON": '{{"token_helper": "{helper}"}}\n',
    "a quoted key": '"token_helper" = "{helper}"\n',
    "an old one in a comment": '/*\n token_helper = "{old}"\n*/\ntoken_helper = "{helper}"\n',
    "an old one in a line comment": '# token_helper = "{old}"\ntoken_helper = "{helper}"\n',
    "only in a comment": '/* token_helper = "{old}" */\n',
    "the last counts": 'token_helper = "{old}"\ntoken_helper = "{helper}"\n',
    "CRLF": 'token_helper = "{helper}"\r\n',
    "indented": '\n\n   token_helper="{helper}"   ',
    "escaped": 'token_helper = "\\u002f{tail}"\n',
    "empty": "",
    "only a comment": "# nothing\n",
    "none": 'token_helper = ""\n',
    "JSON null": '{{"token_helper": null}}',
    "single quotes": "token_helper = '{helper}'\n",
    "no value": "token_helper\n",
    "no equals sign": 'token_helper "{helper}"\n',
    "an unknown key": 'token_helper = "{helper}"\nother = 1\n',
    "another case": 'Token_Helper = "{helper}"\n',
    "a number": "token_helper = 5\n",
    "a truth value": "token_helper = true\n",
    "false": "token_helper = false\n",
    "a list": 'token_helper = ["{helper}"]\n',
    "an empty list": "token_helper = []\n",
    "a block": "token_helper {{\n}}\n",
    "not closed": 'token_helper = "{helper}\n',
    "an open comment": '/* token_helper = "{helper}"\n',
    "no HCL at all": "$ANSIBLE_VAULT;1.1;AES256\n616e\n",
    "JSON, a comma behind the last": '{{"token_helper": "{helper}",}}\n',
    "JSON, two commas behind the last": '{{"token_helper": "{helper}",,}}\n',
    "JSON, a comma behind the whole": '{{"token_helper": "{helper}"}},\n',
    "JSON, not closed": '{{"token_helper": "{helper}"',
    "JSON, more behind it": '{{"token_helper": "{helper}"}} // keychain\n',
    "JSON, a comment before it": '// keychain\n{{"token_helper": "{helper}"}}\n',
    "JSON, no comma between two": '{{"token_helper": "{helper}" "other": 1}}\n',
    "JSON, no value": '{{"token_helper": }}\n',
    "JSON, no number": '{{"token_helper": NaN}}\n',
    "JSON, an escaped slash": '{{"token_helper": "\\/{tail}"}}\n',
    "JSON, an octal slash": '{{"token_helper": "\\057{tail}"}}\n',
    "JSON, an empty object": '{{"token_helper": {{}}}}\n',
    "JSON, half a character": '{{"token_helper": "\\ud800"}}\n',
    "JSON, null and a comma": '{{"token_helper": null,}}\n',
    "JSON behind a byte order mark": '\ufeff{{"token_helper": "{helper}"}}\n',
    "a character that no path holds": 'token_helper = "/a\\u0000b"\n',
    "a missing helper": 'token_helper = "/nonexistent/helper"\n',
}


@pytest.mark.parametrize("form", FORMS)
def test_case_10_the_settings_file_is_read_as_the_stock_client_reads_it(tmp_path: Path, form: str):
    helper, old = tmp_path / "helper", tmp_path / "old"
    helper.write_text('#!/bin/sh\n[ "$1" = get ] && printf %s "tok-$BAO_ADDR-$VAULT_ADDR"\n')
    old.write_text(f"#!/bin/sh\ntouch {tmp_path}/OLD_HELPER_RAN\necho stale\n")
    helper.chmod(0o700)
    old.chmod(0o700)
    named = {"helper": str(helper), "old": str(old), "tail": str(helper)[1:]}
    (tmp_path / ".bao").write_bytes(FORMS[form].format(**named).encode())
    (tmp_path / ".vault-token").write_text("from-the-file")
    environ = {"HOME": str(tmp_path), "BAO_ADDR": "http://127.0.0.1:1", "PATH": os.environ["PATH"]}
    stock = subprocess.run(
        [bao_binary(), "print", "token"], env=environ, capture_output=True, text=True, timeout=60
    )
    try:
        token = resolve_target(TargetFlags(), environ).token
        ours = token.reveal() if token else ""
    except UsageError:
        ours = None
    assert ours == (stock.stdout.strip() if stock.returncode == 0 else None), stock.stderr
    assert not (tmp_path / "OLD_HELPER_RAN").exists()


def test_e1_the_vault_clients_file_is_read_only_where_it_is_named(tmp_path: Path):
    helper = tmp_path / "helper"
    helper.write_text("#!/bin/sh\nprintf helped\n")
    helper.chmod(0o700)
    (tmp_path / ".vault").write_text(f'token_helper = "{helper}" # old\n')
    environ = {"HOME": str(tmp_path), "BAO_ADDR": "https://a", "PATH": os.environ["PATH"]}
    for more, token in (({}, ""), ({"VAULT_CONFIG_PATH": "~/.vault"}, "helped")):
        both = environ | more
        stock = subprocess.run(
            [bao_binary(), "print", "token"], env=both, capture_output=True, text=True, timeout=60
        )
        ours = resolve_target(TargetFlags(), both).token
        assert (stock.stdout.strip(), ours.reveal() if ours else "") == (token, token)


# Values: what the stock client takes is taken, what it refuses is refused.

VALUES = {
    "MAX_RETRIES": "0|1|+3|-0|-1|007|08|0x3|0b1|1_0| 3|3 |1.0|1e0|٣|4294967296|" + "9" * 19,
    "CLIENT_TIMEOUT": ".5s|5.s|.s|+5s|+5|-0|1.5|1.5h|1d|+1d|1.5d|1d1h|1h1d|1h 1m|1m30s|5S|1µs|1μs"
    "|inf|nan|1e3s|1_0|0x5| 5|5 |d|s|1s1|5\uff53|106751d|106752d|" + "9" * 19 + "|9999999h",
    "RATE_LIMIT": "0|-1|inf|+Inf|-infinity|nan|+nan|0.5|.5|5.|.|5:x|5:0|5:-1|5:+2|5:2x| 5:2|5 :2"
    "|5: 2|5:2:3|1e3|1e3:5|0x10|0x1p4|0x1p4:2|1_0|1__0|5:1_0|1e999|5x|:5|5:|inf:5|nan:5| 5|5 "
    "|5:" + "9" * 19 + "|5\n:2|5:\n2|٣",
    "SKIP_VERIFY": "1|t|T|TRUE|true|True|tRuE|tRUE|yes|on| true|0|f|F|FALSE|false|False|fAlSe|2",
}


@pytest.mark.parametrize("name", VALUES)
def test_e1_numbers_spans_and_truth_values_are_those_of_the_stock_client(tmp_path, name: str):
    environ = {"HOME": str(tmp_path), "BAO_ADDR": "http://127.0.0.1:1", "PATH": os.environ["PATH"]}

    def stock_takes(text: str) -> bool:
        words = [bao_binary(), "read", "-output-curl-string", "x"]
        both = {**environ, "BAO_TOKEN": "x", f"BAO_{name}": text}
        return subprocess.run(words, env=both, capture_output=True, timeout=60).returncode == 0

    def ours_takes(text: str) -> bool:
        try:
            resolve_target(TargetFlags(), {**environ, f"VAULT_{name}": text})
            client_timeout({f"VAULT_{name}": text})
        except UsageError:
            return False
        return True

    texts = VALUES[name].split("|")
    assert {text: ours_takes(text) for text in texts} == {text: stock_takes(text) for text in texts}


@pytest.mark.parametrize("text", ["0", "0.1", "0.1:0", "-0.1:1", "nan:1", "0.01:1", "0:1", "1:1"])
def test_e1_a_rate_limits_here_where_it_limits_the_stock_client(tmp_path: Path, text: str):
    """Two requests: a pause of 1 s is seen for 1:1; with the others it would be 10 s or more."""
    at: list[float] = []

    def answer(_: Seen) -> Answer:
        at.append(time.monotonic())
        return Answer(200, {"data": {"options": {"version": "1"}, "path": "kv/"}})

    environ = {"HOME": str(tmp_path), "BAO_TOKEN": "x", "BAO_RATE_LIMIT": text}
    with scripted(Answer()) as server:
        server.script = answer
        subprocess.run(
            [bao_binary(), "kv", "get", "-mount=kv", "x"],
            env={**environ, "BAO_ADDR": server.address, "PATH": os.environ["PATH"]},
            capture_output=True,
            timeout=60,
        )
    pauses: list[float] = []
    limit = rate_limit(environ)
    if limit is not None:
        limit = RateLimit(limit.rate, limit.burst, monotonic=lambda: 0.0, sleep=pauses.append)
        for _ in range(2):
            limit.wait(60)
    first, second = at
    assert (second - first > 0.9) is bool(pauses) is (text == "1:1")


@pytest.mark.parametrize(
    "given",
    [
        {"CLIENT_CERT": "c"},
        {"CLIENT_KEY": "k"},
        {"CLIENT_CERT": "c", "CLIENT_KEY": "k"},
        {"CLIENT_CERT_BYTES": "c"},
        {"CLIENT_KEY_BYTES": "k"},
        {"CLIENT_CERT": "c", "CLIENT_KEY_BYTES": "k"},
        {"CLIENT_KEY": "k", "CLIENT_CERT_BYTES": "c", "CLIENT_KEY_BYTES": "k"},
    ],
    ids=" ".join,
)
def test_e1_a_client_certificate_needs_its_key_and_a_key_its_certificate(tmp_path: Path, given):
    client = trustme.CA().issue_cert("client@example.com")
    pems = {"c": client.cert_chain_pems[0].bytes(), "k": client.private_key_pem.bytes()}
    for name, pem in pems.items():
        (tmp_path / name).write_bytes(pem)
    environ = {"HOME": str(tmp_path), "BAO_ADDR": "https://127.0.0.1:1", "BAO_TOKEN": "x"}
    for name, which in given.items():
        text = pems[which].decode() if name.endswith("BYTES") else str(tmp_path / which)
        environ[f"BAO_{name}"] = text
    stock = subprocess.run(
        [bao_binary(), "read", "-output-curl-string", "x"],
        env={**environ, "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=60,
    )
    done = invoke("mount", "list", "-o", "json", env=environ)
    problem = checked_envelope(done.stdout)["errors"][0]
    refused = (
        problem["summary"].startswith("a client ")
        and " is named without its " in (problem["summary"])
    )
    assert refused is (stock.returncode != 0)
    assert done.exit_code == (64 if refused else 69)


# Cases 11 and 12: whom to trust.


def leaves_with(environ: dict[str, str]) -> tuple[int, int]:
    """What the stock client and skyflowctl leave with, in one environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BAO_", "VAULT_", "SSL_"))}
    stock = subprocess.run(
        [bao_binary(), "token", "lookup"], env={**clean, **environ}, capture_output=True, timeout=60
    )
    done = invoke("mount", "list", "-o", "json", env=environ)
    assert checked_envelope(done.stdout)
    return stock.returncode, done.exit_code


@pytest.fixture
def login(bao: BaoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A login at the real server, without its CA, in a folder without a manifest."""
    for name in [one for one in os.environ if one.startswith(("BAO_", "VAULT_", "SSL_CERT"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.token, "HOME": str(tmp_path)}


def folder_with(tmp_path: Path, pem: bytes) -> Path:
    folder = tmp_path / "ca"
    (folder / "deep").mkdir(parents=True)
    (folder / "README").write_text("no certificate")
    (folder / "broken.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    (folder / "deep" / "corp.pem").write_bytes(b"# corp root\n" + pem)
    return folder


def test_case_11_a_folder_needs_no_hash_links(bao: BaoServer, login, tmp_path: Path):
    folder = folder_with(tmp_path, bao.ca.read_bytes())
    assert leaves_with({**login, "BAO_CAPATH": str(folder)}) == (0, 0)
    assert leaves_with({**login, "VAULT_CAPATH": str(folder / "deep")}) == (0, 0)
    other = tmp_path / "other"
    other.mkdir()
    trustme.CA().cert_pem.write_to_path(str(other / "ca.pem"))
    assert leaves_with({**login, "BAO_CAPATH": str(other)}) == (2, 69)


def test_case_11_so_does_ssl_cert_dir(bao: BaoServer, login, tmp_path: Path):
    folder = folder_with(tmp_path, bao.ca.read_bytes()) / "deep"
    assert leaves_with({**login, "SSL_CERT_DIR": f"/nonexistent:{folder}"}) == (0, 0)
    assert leaves_with({**login, "SSL_CERT_FILE": str(folder / "corp.pem")}) == (0, 0)


def test_case_11_a_folder_without_a_certificate_is_said(login, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    done = invoke(
        "mount", "list", "-o", "json", env={**login, "BAO_CAPATH": str(tmp_path / "empty")}
    )
    problem = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, problem["code"]) == (64, "bad-ca")
    assert "empty" in problem["summary"]


@pytest.mark.parametrize("name", ["BAO_CACERT_BYTES", "VAULT_CACERT_BYTES"])
def test_case_12_the_ca_may_be_in_the_environment_itself(bao: BaoServer, login, name: str):
    assert leaves_with({**login, name: bao.ca.read_text()}) == (0, 0)
    assert leaves_with(login)[1] == 69
    done = invoke("mount", "list", env={**login, name: "no PEM"})
    assert done.exit_code == 64


def test_e1_an_intermediate_that_is_named_is_trusted(tmp_path: Path):
    """As the stock client does: what was named is a root, whoever signed it."""
    root = trustme.CA()
    middle = root.create_child_ca()
    served = middle.issue_cert("localhost", "127.0.0.1")
    with https(served, None) as address:
        pem = middle.cert_pem.bytes().decode()
        target = Target(address, "", None, "flags", ca_bytes=pem)
        assert Gateway(HttpTransport(target, run_id="r")).sys.health().initialized


def https(served: trustme.LeafCert, clients: trustme.CA | None):
    """A server with TLS that answers sys/health; with ``clients``, only to its certificates."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = json.dumps({"initialized": True, "sealed": False}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Silent."""

    @contextlib.contextmanager
    def running():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.configure_cert(context)
        if clients:
            clients.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return running()


def test_e1_a_client_certificate_in_the_environment_itself(tmp_path: Path):
    ca = trustme.CA()
    client = ca.issue_cert("client@example.com")
    certificate = b"".join(one.bytes() for one in client.cert_chain_pems).decode()
    key = client.private_key_pem.bytes().decode()
    with https(ca.issue_cert("127.0.0.1"), ca) as address:
        environ = {
            "HOME": str(tmp_path),
            "BAO_ADDR": address,
            "BAO_CACERT_BYTES": ca.cert_pem.bytes().decode(),
        }
        bare = resolve_target(TargetFlags(), environ)
        with pytest.raises(Exception, match=r"cannot reach|no answer|not known"):
            Gateway(HttpTransport(bare, run_id="r", timeout=2)).sys.health()
        environ |= {"VAULT_CLIENT_CERT_BYTES": certificate, "VAULT_CLIENT_KEY_BYTES": key}
        target = resolve_target(TargetFlags(), environ)
        assert Gateway(HttpTransport(target, run_id="r")).sys.health().initialized
    assert "PRIVATE" not in repr(target)


def test_e1_a_client_certificate_that_cannot_be_used_is_said():
    for pem in ("nothing", "x" * 70_000):
        with pytest.raises(UsageError) as caught:
            tls_context(Target("https://x", "", None, "flags", client_pem=Secret(pem)))
        assert caught.value.problems[0].code == "bad-client-certificate"


def test_e1_the_named_proxy_is_asked_for_every_request(tmp_path: Path):
    health = Answer(200, {"initialized": True, "sealed": False})
    with scripted(health) as proxy:
        environ = {
            "HOME": str(tmp_path),
            "BAO_ADDR": "http://bao.invalid:8200",
            "VAULT_PROXY_ADDR": proxy.address,
        }
        target = resolve_target(TargetFlags(), environ)
        assert Gateway(HttpTransport(target, run_id="r")).sys.health().initialized
    assert proxy.seen[0].path.startswith("http://bao.invalid:8200/v1/sys/health")


def test_case_15_no_proxy_with_a_port_on_an_address(bao: BaoServer, login):
    port = bao.address.rpartition(":")[2]
    trust = {**login, "BAO_CACERT": str(bao.ca), "HTTPS_PROXY": "http://127.0.0.1:1"}
    assert leaves_with({**trust, "NO_PROXY": f"127.0.0.1:{port}"}) == (0, 0)
