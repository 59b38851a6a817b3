"""The plugin host under a real server, with a tiny engine that gives every answer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.bao import BaoServer
from support.plugin import copy_source, mounted, register, send_only, wait_for, write_probe

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def probe(bao: BaoServer, tmp_path_factory):
    """The tiny engine, mounted at ``probe/``."""
    sha256 = write_probe(copy_source(tmp_path_factory.mktemp("src")), bao.plugin_dir, "probe")
    assert register(bao, "probe", sha256)[0] == 204
    with mounted(bao, "probe", "probe"):
        bao.api(
            "POST",
            "sys/mounts/probe/tune",
            {"passthrough_request_headers": ["Application-Source"]},
        )
        yield bao


def test_storage_goes_through_the_server(probe: BaoServer):
    assert probe.api("POST", "probe/kv/a", {"value": "1"})[1]["data"] == {"operation": "create"}
    assert probe.api("POST", "probe/kv/a", {"value": "2"})[1]["data"] == {"operation": "update"}
    assert probe.api("GET", "probe/kv/a")[1]["data"] == {"value": "2"}
    assert probe.api("GET", "probe/kv/?list=true")[1]["data"] == {"keys": ["a"]}
    assert probe.api("DELETE", "probe/kv/a")[0] == 204
    assert probe.api("GET", "probe/kv/a")[0] == 404


@pytest.mark.parametrize("status", [403, 404, 409, 502, 503])
def test_a_coded_error_keeps_status_and_text(probe: BaoServer, status: int):
    seen, body = probe.api("GET", f"probe/status/{status}")
    assert seen == status
    assert f"probe says {status}" in body["errors"][0]


def test_a_400_is_response_data_and_hashed_in_the_audit_log(probe: BaoServer):
    seen, body = probe.api("GET", "probe/status/400")
    assert (seen, body) == (400, {"errors": ["probe says 400"]})
    entries = [line for line in probe.audit_log.read_text().splitlines() if "status/400" in line]
    assert any('"error":"hmac-sha256:' in line for line in entries)
    assert not any("probe says" in line for line in entries)


def test_an_exception_shows_nothing_of_the_request(probe: BaoServer):
    seen, body = probe.api("GET", "probe/crash/now?ctx=very-private")
    assert seen == 500
    assert "internal error in the plugin" in body["errors"][0]
    log = (probe.folder / "server.log").read_text()
    assert "exception=RuntimeError" in log
    assert "very-private" not in log


def test_no_answer_is_404_to_a_read_and_204_to_a_write(probe: BaoServer):
    assert probe.api("GET", "probe/nothing/x")[0] == 404
    assert probe.api("POST", "probe/nothing/x", {"a": 1})[0] == 204


def test_the_engine_gets_who_what_and_where(probe: BaoServer):
    body = probe.api("GET", "probe/echo/x?ctx=a&ctx=b")[1]
    assert body["data"]["data"] == {"ctx": ["a", "b"]}
    assert body["data"]["mount_point"] == "probe/"
    assert body["data"]["request_id"] == body["request_id"]
    assert body["warnings"] == ["mind this"]


def test_passed_headers_have_lower_case_names(probe: BaoServer):
    reply = _raw(probe, "GET", "probe/echo/x", extra="Application-Source: order\r\n")
    assert reply["data"]["headers"] == {"application-source": ["order"]}


def test_replies_larger_than_the_flow_control_window_in_parallel(probe: BaoServer):
    def read(_: int) -> int:
        return len(probe.api("GET", "probe/large/300000")[1]["data"]["text"])

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(read, range(96))) == {300_000}


def test_more_calls_at_once_than_the_librarys_limit(probe: BaoServer):
    sockets = [send_only(probe, "GET", f"probe/wait/{number}") for number in range(150)]
    try:
        wait_for(lambda: _counts(probe)["waiting"] == 150)
        assert probe.api("GET", "probe/large/10")[0] == 200
    finally:
        for connection in sockets:
            connection.close()
    wait_for(lambda: _counts(probe)["waiting"] == 0)


def test_a_client_that_goes_away_cancels_its_request(probe: BaoServer):
    before = _counts(probe)["cancelled"]
    connection = send_only(probe, "GET", "probe/wait/now")
    wait_for(lambda: _counts(probe)["waiting"] == 1)
    connection.close()
    wait_for(lambda: _counts(probe)["cancelled"] == before + 1)


def test_help_and_openapi_reach_the_server(probe: BaoServer):
    assert "probe" in probe.bao("path-help", "probe/").stdout
    document = probe.api("GET", "sys/internal/specs/openapi")[1]
    assert document["paths"]["/probe/kv/{name}"]["description"] == "probe store"


def test_special_paths_and_versions_are_told(probe: BaoServer):
    mount = probe.api("GET", "sys/mounts/probe")[1]["data"]
    assert mount["running_plugin_version"] == mount["plugin_version"]


def _counts(server: BaoServer) -> dict:
    return server.api("GET", "probe/counts/x")[1]["data"]


def _raw(server: BaoServer, method: str, path: str, extra: str) -> dict:
    with send_only(server, method, path, extra) as connection, connection.makefile("rb") as file:
        return json.loads(file.read().partition(b"\r\n\r\n")[2])
