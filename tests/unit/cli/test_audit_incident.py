"""``audit incident`` from the command line on: what is refused before the server is asked."""

from __future__ import annotations

from support.cli import checked_envelope, invoke


def test_a_ctx_that_cannot_be_used_is_said_once_and_without_the_server(tmp_path, monkeypatch):
    log = tmp_path / "audit.log"
    log.touch()
    monkeypatch.setenv("BAO_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("BAO_TOKEN", "x")
    done = invoke("audit", "incident", str(log), "--ctx", '{"a":', "-o", "json")
    assert done.exit_code == 64
    told = checked_envelope(done.stdout)
    assert [one["code"] for one in told["errors"]] == ["bad-ctx"]
    assert "warning" not in done.stderr
