"""What ``plugin upgrade --launcher`` registers, and when it refuses to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.upgrade_server import NAME, NEW, UpgradeServer, mount_entry

from skyflowctl.errors import Problem, RefusedError
from skyflowctl.operations.plugins import Registration
from skyflowctl.operations.upgrade.model import UpgradeRequest
from skyflowctl.operations.upgrade.registration import (
    plan_registration,
    register_for_upgrade,
    registered_for_upgrade,
)
from skyflowctl.vault.errors import ForbiddenError

UNREGISTERED = "v1.2.0"
ORDER = "skyflow/order"


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    path = tmp_path / f"skyflow-{UNREGISTERED}"
    path.write_text("#!/bin/sh\n")
    return path


def server(*args: str, **mounts: str) -> UpgradeServer:
    entries = {path: mount_entry(version) for path, version in mounts.items()}
    return UpgradeServer(entries or {ORDER: mount_entry()}, args=args)


def planned(there: UpgradeServer, launcher: Path, version: str = UNREGISTERED, *env: str):
    return plan_registration(there.gateway(), UpgradeRequest(NAME, None, version), launcher, env)


def test_the_entry_has_the_digest_of_the_file_and_the_arguments_that_run(launcher):
    found = planned(server("--only-host", "a:443", "--shared"), launcher)
    sha256 = hashlib.sha256(launcher.read_bytes()).hexdigest()
    args = ("--only-host=a:443", "--shared")
    assert found == Registration(NAME, UNREGISTERED, launcher.name, sha256, args)


def test_a_recorded_variable_must_be_given(launcher):
    there = server("--env-names=HTTPS_PROXY")
    with pytest.raises(RefusedError, match="HTTPS_PROXY") as refused:
        planned(there, launcher)
    assert refused.value.problems[0].fix == "--env HTTPS_PROXY=…"
    found = planned(there, launcher, UNREGISTERED, "HTTPS_PROXY=http://proxy")
    assert found is not None
    assert found.env == ("HTTPS_PROXY=http://proxy",)


def test_another_file_under_the_version_is_refused(launcher):
    with pytest.raises(RefusedError) as refused:
        planned(server(), launcher, NEW)
    assert refused.value.problems[0].code == "other-file-registered"


def test_arguments_that_cannot_be_known_are_refused(launcher):
    with pytest.raises(RefusedError) as refused:
        planned(server(**{ORDER: "v0.9.0"}), launcher)
    assert refused.value.problems[0].code == "arguments-unknown"


def test_an_entry_whose_file_is_missing_is_left_as_it_is(launcher):
    there = UpgradeServer({ORDER: mount_entry()}, lacks={"n0": {NEW}})
    assert planned(there, launcher, NEW) is None


def ended(there: UpgradeServer, wanted: Registration, error: BaseException):
    """Register, end the block with an error, and return what was said and warned."""
    said: list[str] = []
    warned: list[Problem] = []

    def block() -> None:
        with registered_for_upgrade(there.gateway(), wanted, said.append, warned.append):
            assert list(there.registered) == [UNREGISTERED]
            raise error

    with pytest.raises(type(error)) as raised:
        block()
    assert raised.value is error
    return said, warned


@pytest.mark.parametrize("error", [RefusedError("refused"), KeyboardInterrupt(), SystemExit()])
def test_what_ends_the_block_removes_the_entry_and_is_raised(launcher, error):
    there = server()
    said, warned = ended(there, planned(there, launcher), error)
    assert (there.registered, warned) == ({}, [])
    assert said[-1] == f"{NAME} {UNREGISTERED} is not registered any more"


def forbid(_: object, __: str) -> None:
    raise ForbiddenError("permission denied")


@pytest.mark.parametrize("delete", [forbid, lambda *_: None])
def test_an_entry_that_is_not_removed_is_reported_beside_the_refusal(launcher, delete):
    there = server()
    there.delete = delete
    said, (problem,) = ended(there, planned(there, launcher), RefusedError("refused"))
    assert problem.code == "entry-not-removed"
    assert f"-version={UNREGISTERED}" in problem.fix
    assert not [text for text in said if "any more" in text]


def test_of_an_entry_that_was_not_written_nothing_is_said():
    there = server()
    said: list[str] = []
    dead = Registration(NAME, UNREGISTERED, "skyflow-v1.0.3", "ab" * 32)
    block = registered_for_upgrade(there.gateway(), dead, said.append, lambda _: said.append(""))
    with pytest.raises(RefusedError), block:
        pass
    assert said == []


def test_a_file_that_does_not_start_is_refused_and_not_written():
    there = server()
    dead = Registration(NAME, UNREGISTERED, "skyflow-v1.0.3", "ab" * 32)
    with pytest.raises(RefusedError) as refused:
        register_for_upgrade(there.gateway(), dead)
    assert refused.value.problems[0].code == "plugin-does-not-start"
    writes = [method for _, method, path in there.log if "catalog" in path]
    assert writes == ["POST", "DELETE"]
