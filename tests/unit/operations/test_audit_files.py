"""A deleted file of an audit device, to which a process still writes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from skyflowctl.errors import Where
from skyflowctl.manifest.model import DeclaredObject
from skyflowctl.operations.blocked_audit import AuditSuspects, lost_records

WHERE = Where("mounts.yaml", 1, 1, "/audit_devices/main")


def suspects(path: Path, *, local: bool = True) -> AuditSuspects:
    fields = {"type": "file", "description": "", "options.file_path": str(path)}
    return AuditSuspects((DeclaredObject("audit_device", "sys/audit/main", fields, WHERE),), local)


def test_a_deleted_file_that_is_still_written_is_named_with_its_process(tmp_path):
    path = tmp_path / "logs" / "audit.log"
    path.parent.mkdir()
    with path.open("w"):
        assert lost_records(suspects(path)) == []
        path.unlink()
        path.parent.rmdir()
        (problem,) = lost_records(suspects(path))
        assert problem.code == "audit-file-deleted"
        assert "audit device main" in problem.summary
        assert str(path) in problem.summary
        assert f"process {os.getpid()} " in problem.why
        assert lost_records(replace(suspects(path), local=False)) == []
        path.parent.mkdir()
        path.touch()  # as after a SIGHUP
        assert lost_records(suspects(path)) == []


@pytest.mark.parametrize("path", ["stdout", "/nowhere/audit.log"])
def test_a_file_that_nobody_has_open_is_not_named(path):
    assert lost_records(suspects(Path(path))) == []
