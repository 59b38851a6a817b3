"""What the plugin reads from its environment and arguments, and the line it answers."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from skyflowctl.plugin.__main__ import engine_factory, main
from skyflowctl.plugin.certificates import (
    CertificateError,
    begin_certificate,
    client_context,
    make_certificate,
    server_context,
)
from skyflowctl.plugin.handshake import (
    HandshakeError,
    NotStartedByServerError,
    handshake_line,
    new_socket_path,
    read_handshake,
)
from skyflowctl.plugin.logs import JsonFormatter, install_logs
from skyflowctl.plugin.settings import ArgumentError, PluginSettings, parse_arguments

GOOD = {
    "VAULT_BACKEND_PLUGIN": "6669da05-b1c8-4f49-97d9-c8e5bed98e20",
    "PLUGIN_PROTOCOL_VERSIONS": "4,5",
    "PLUGIN_CLIENT_CERT": "PEM",
    "PLUGIN_UNIX_SOCKET_DIR": "/short",
}


def test_the_environment_of_a_server_is_read():
    found = read_handshake(GOOD | {"PLUGIN_UNIX_SOCKET_GROUP": "bao", "PLUGIN_MULTIPLEX_GRPC": "1"})
    assert found.host_certificate == "PEM"
    assert found.socket_dir == "/short"
    assert found.socket_group == "bao"
    assert found.tells_multiplexing


@pytest.mark.parametrize("cookie", [None, "", "wrong"])
def test_without_the_cookie_a_person_started_it(cookie: str | None):
    environ = {name: value for name, value in GOOD.items() if name != "VAULT_BACKEND_PLUGIN"}
    if cookie is not None:
        environ["VAULT_BACKEND_PLUGIN"] = cookie
    with pytest.raises(NotStartedByServerError, match="never by hand"):
        read_handshake(environ)


@pytest.mark.parametrize(
    "change", [{"PLUGIN_PROTOCOL_VERSIONS": "3,4"}, {"PLUGIN_CLIENT_CERT": ""}]
)
def test_another_protocol_or_no_mutual_tls_is_refused(change: dict[str, str]):
    with pytest.raises(HandshakeError):
        read_handshake(GOOD | change)


def test_the_line_has_six_fields_and_no_padding():
    line = handshake_line("/s/x", b"1234", with_multiplexing=False)
    assert line == "1|5|unix|/s/x|grpc|MTIzNA"
    assert handshake_line("/s/x", b"1", with_multiplexing=True).endswith("|MQ|false")


def test_a_socket_path_is_short_and_new(tmp_path: Path):
    first, second = (new_socket_path(str(tmp_path), 12) for _ in range(2))
    assert first != second
    assert Path(first).parent == tmp_path
    assert Path(first).name.startswith("sky12-")


def test_a_socket_folder_that_cannot_work_is_refused(tmp_path: Path):
    with pytest.raises(HandshakeError, match="does not exist"):
        new_socket_path(str(tmp_path / "absent"), 1)
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with pytest.raises(HandshakeError, match="PLUGIN_UNIX_SOCKET_DIR"):
        new_socket_path(str(long), 1)


def test_arguments_in_both_forms():
    assert parse_arguments([]) == PluginSettings()
    found = parse_arguments(
        [
            "--allow-host",
            "A.example:443",
            "--allow-host=b:8443",
            "--shared",
            "--credentials-directory",
            "/keys",
            "--only-host=127.0.0.1:8443",
        ]
    )
    assert found == PluginSettings(
        frozenset({"a.example:443", "b:8443"}), "/keys", True, frozenset({"127.0.0.1:8443"})
    )


def test_only_host_shuts_out_the_real_token_services(monkeypatch: pytest.MonkeyPatch):
    made = {}
    monkeypatch.setattr(
        "skyflowctl.engine.engine.Engine", lambda *parts: made.setdefault("settings", parts[2])
    )
    factory = engine_factory(parse_arguments(["--only-host", "127.0.0.1:8443"]))
    factory(object(), {})
    assert made["settings"].allowed_hosts == {"127.0.0.1:8443"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--allow-host"],
        ["--allow-host", "https://x:1"],
        ["--allow-host", "x"],
        ["--allow-host", "x:0"],
        ["--allow-host", "user@x:1"],
        ["--allow-host", "x:99999"],
        ["--credentials-directory", "relative"],
        ["--credentials-directory"],
        ["--shared=yes"],
        ["--other"],
        ["word"],
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str]):
    with pytest.raises(ArgumentError):
        parse_arguments(arguments)


def test_the_certificate_is_what_the_server_pins():
    own = make_certificate()
    read = x509.load_der_x509_certificate(own.der)
    read.verify_directly_issued_by(read)
    now = datetime.now(UTC)
    assert read.not_valid_before_utc < now
    assert read.not_valid_after_utc > now + timedelta(days=20 * 365)
    assert isinstance(read.public_key(), ec.EllipticCurvePublicKey)
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = read.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, True, False)
    purposes = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {purpose._name for purpose in purposes} == {"clientAuth", "serverAuth"}
    assert (
        read.serial_number != x509.load_der_x509_certificate(make_certificate().der).serial_number
    )


def test_a_peer_with_another_certificate_is_refused():
    own, host, stranger = (make_certificate() for _ in range(3))
    assert _handshakes(own, host, host)
    assert not _handshakes(own, host, stranger)


def _handshakes(own, host, caller) -> bool:
    """Whether the plugin (``own``), told to trust ``host``, accepts ``caller``."""
    server = server_context(own, _pem(host))
    client = client_context(caller, _pem(own))
    pipes = [ssl.MemoryBIO() for _ in range(4)]
    sides = [
        server.wrap_bio(pipes[0], pipes[1], server_side=True),
        client.wrap_bio(pipes[2], pipes[3], server_hostname="localhost"),
    ]
    try:
        for _ in range(6):
            for side in sides:
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
            pipes[2].write(pipes[1].read())
            pipes[0].write(pipes[3].read())
    except ssl.SSLError:
        return False
    return True


def _pem(certificate) -> str:
    return ssl.DER_cert_to_PEM_cert(certificate.der)


def test_a_log_line_is_json_and_leaves_the_exceptions_text_out():
    try:
        raise RuntimeError("ctx=order:private")
    except RuntimeError:
        record = logging.LogRecord(
            "skyflowctl.x", logging.ERROR, "f.py", 1, "it %s", ("broke",), sys.exc_info()
        )
    text = JsonFormatter().format(record)
    entry = json.loads(text)
    assert (entry["@level"], entry["@message"], entry["@module"]) == (
        "error",
        "it broke",
        "skyflowctl.x",
    )
    assert entry["exception"] == "RuntimeError"
    assert datetime.fromisoformat(entry["@timestamp"]).tzinfo is not None
    assert "private" not in text


@pytest.fixture
def fresh_logging(monkeypatch: pytest.MonkeyPatch):
    root = logging.getLogger()
    kept = (root.handlers[:], root.level, logging.raiseExceptions)
    level = logging.getLogger("skyflowctl").level
    yield
    root.handlers[:], logging.raiseExceptions = kept[0], kept[2]
    root.setLevel(kept[1])
    logging.getLogger("skyflowctl").setLevel(level)


@pytest.mark.usefixtures("fresh_logging")
def test_a_librarys_words_are_masked(capsys: pytest.CaptureFixture[str]):
    install_logs()
    logging.getLogger("asyncio").error("Fatal: %s", "token eyJ")
    logging.getLogger("skyflowctl.plugin").info("own words")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["@message"] for line in lines] == ["a problem in a library", "own words"]


@pytest.mark.usefixtures("fresh_logging")
def test_started_by_hand_it_says_what_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("VAULT_BACKEND_PLUGIN", raising=False)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main([], lambda _settings: _no_engine) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "never by hand" in err


@pytest.mark.usefixtures("fresh_logging")
def test_a_wrong_argument_is_one_json_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(["--bogus"], lambda _settings: _no_engine) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--bogus" in json.loads(line)["@message"]


def _no_engine(_storage):
    raise AssertionError("no mount here")


def test_a_certificate_is_made_in_a_child_that_has_ended(monkeypatch, capfd, tmp_path):
    fork, children = os.fork, []

    def noted() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr("os.fork", noted)
    before = len(list(Path("/proc/self/fd").iterdir()))
    own = begin_certificate()()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    pem = tmp_path / "own.pem"
    pem.write_text(own.pem.reveal())
    # Fails if the key is not that of the certificate.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem)
    assert _pem(own) in own.pem.reveal()
    assert x509.load_der_x509_certificate(own.der).subject.rfc4514_string() == "CN=localhost"
    with pytest.raises(ChildProcessError):
        os.waitpid(children[0], 0)
    assert capfd.readouterr() == ("", "")


def test_a_child_that_fails_is_no_certificate(monkeypatch):
    def fail() -> None:
        raise MemoryError("a detail")

    monkeypatch.setattr("skyflowctl.plugin.certificates.make_certificate", fail)
    with pytest.raises(CertificateError, match="could not be made"):
        begin_certificate()()


def test_padding_is_really_left_out():
    own = make_certificate()
    field = handshake_line("/s", own.der, with_multiplexing=False).rpartition("|")[2]
    assert base64.b64decode(field + "=" * (-len(field) % 4)) == own.der
