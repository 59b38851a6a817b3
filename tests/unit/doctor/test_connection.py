"""TLS to an address: real handshakes with good, foreign, misnamed and expired certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from skyflowctl.doctor.connection import check_tls
from skyflowctl.doctor.model import Diagnosis, Grade
from skyflowctl.vault.target import Target


class Clock:
    def __init__(self, ahead: timedelta = timedelta()) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return 0.0


@contextmanager
def listening(certificate: trustme.LeafCert) -> Iterator[str]:
    """An address that makes handshakes and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(client, server_side=True).close()
                except OSError:
                    client.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def seen(address: str, ca: trustme.CA, folder: Path, **more: object) -> Diagnosis:
    file = folder / "ca.pem"
    ca.cert_pem.write_to_path(file)
    clock = more.pop("clock", Clock())
    options = {"ca_cert": str(file), **more}
    target = Target(address=address, namespace="", token=None, source="flags", **options)
    (*_, last) = check_tls(target, clock)
    return last


def test_each_fault_of_a_certificate_is_told_apart(tmp_path):
    ca, foreign = trustme.CA(), trustme.CA()
    with listening(ca.issue_cert("127.0.0.1")) as good:
        assert seen(good, ca, tmp_path).grade is Grade.OK
        other = seen(good, foreign, tmp_path)
        assert (other.grade, other.fix) == (Grade.BAD, "export BAO_CACERT=/path/of/ca.pem")
        assert "not signed by an authority" in other.summary
        named = seen(good, ca, tmp_path, tls_server_name="bao.example")
        assert (named.grade, "another name" in named.summary) == (Grade.BAD, True)
        proxied = seen(good, ca, tmp_path, proxy=object())
        assert proxied.grade is Grade.UNKNOWN


def test_an_expired_certificate_and_one_that_ends_soon(tmp_path):
    ca = trustme.CA()
    ends = datetime.now(UTC) + timedelta(days=20)
    with listening(ca.issue_cert("127.0.0.1", not_after=ends)) as soon:
        assert seen(soon, ca, tmp_path).grade is Grade.OK
        later = seen(soon, ca, tmp_path, clock=Clock(timedelta(days=10)))
        assert (later.grade, "ends in" in later.summary) == (Grade.WARNING, True)
    past = datetime.now(UTC) - timedelta(days=1)
    with listening(ca.issue_cert("127.0.0.1", not_after=past)) as expired:
        found = seen(expired, ca, tmp_path)
        assert (found.grade, "has expired" in found.summary) == (Grade.BAD, True)


def test_no_encryption_and_no_answer(tmp_path):
    ca = trustme.CA()
    assert seen("http://127.0.0.1:8200", ca, tmp_path).grade is Grade.OK
    assert seen("http://bao.example:8200", ca, tmp_path).grade is Grade.BAD
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    gone = seen(f"https://127.0.0.1:{closed}", ca, tmp_path)
    assert (gone.grade, "no TLS connection" in gone.summary) == (Grade.BAD, True)
