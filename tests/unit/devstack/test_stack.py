"""The bundle of CAs that a shell of the dev stack trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.stack import ensure_certificates, write_bundle


def pem(name: str) -> str:
    return trustme.CA(organization_name=name).cert_pem.bytes().decode()


@pytest.fixture
def layout(tmp_path):
    layout = DevLayout(tmp_path / "dev")
    layout.create()
    ensure_certificates(layout)
    return layout


def names(layout: DevLayout) -> list[str]:
    context = ssl.create_default_context(cafile=str(layout.bundle))
    subjects = [dict(pair[0] for pair in one["subject"]) for one in context.get_ca_certs()]
    return [one.get("organizationName", "") for one in subjects]


def test_a_shell_keeps_trusting_what_it_trusted(layout, tmp_path, monkeypatch):
    company, folder, system = tmp_path / "company.pem", tmp_path / "folder", tmp_path / "system.pem"
    company.write_text("a comment\n" + pem("Company") + pem("Company Two"))
    folder.mkdir()
    (folder / "one.pem").write_text(pem("In a folder"))
    system.write_text(pem("Of the system"))
    usual = ssl.get_default_verify_paths()._replace(openssl_cafile=str(system))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: usual)
    write_bundle(layout, {"SSL_CERT_FILE": str(company), "REQUESTS_CA_BUNDLE": str(folder)})
    found = ["Of the system", "Company", "Company Two", "In a folder", "skyflowctl dev stack"]
    assert sorted(names(layout)) == sorted(found)
    # In that shell, both variables name the bundle.
    own = {"SSL_CERT_FILE": str(layout.bundle), "REQUESTS_CA_BUNDLE": str(layout.bundle)}
    write_bundle(layout, own)
    assert sorted(names(layout)) == sorted(found)
    write_bundle(layout, {"SSL_CERT_FILE": str(tmp_path / "missing")})
    assert sorted(names(layout)) == sorted(found)


def test_public_roots_are_trusted_on_a_system_that_has_none(layout, tmp_path, monkeypatch):
    nothing = str(tmp_path / "nothing")
    usual = ssl.get_default_verify_paths()._replace(openssl_cafile=nothing, openssl_capath=nothing)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: usual)
    write_bundle(layout, {})
    assert len(names(layout)) > 50
    assert "skyflowctl dev stack" in names(layout)


def test_a_folder_of_certificates_that_cannot_be_read_has_none(layout, tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refuse)
    write_bundle(layout, {"SSL_CERT_FILE": str(tmp_path)})
    assert "skyflowctl dev stack" in names(layout)
