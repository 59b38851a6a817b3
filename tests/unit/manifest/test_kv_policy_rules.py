"""A policy's path below a kv engine of version 2 has data/, metadata/ or another such part."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyflowctl.errors import InvalidInputError, Problem
from skyflowctl.manifest.load import load_manifest

HEAD = "version: 1\nmanifest: shop\nmounts: {}\nengines: {secret: {type: kv}}\npolicies:\n"
WHY = "secret is a kv engine of version 2: its secrets are read at secret/data/NAME"


@pytest.fixture
def problems(tmp_path: Path):
    def read(policy: str) -> tuple[Problem, ...]:
        file = tmp_path / "mounts.yaml"
        file.write_text(f"{HEAD}  backend: {policy}\n")
        try:
            load_manifest([str(file)], environ={})
        except InvalidInputError as error:
            return error.problems
        return ()

    return read


@pytest.mark.parametrize(
    "path",
    [
        *("secret/data/backend", "secret/metadata/*", "secret/*", "secret/da*", "secret/config"),
        *("secret/+/backend", "secret/detailed-metadata/a", "secret/undelete/a", "secret"),
        *("secrets/backend", "other/backend", "sys/mounts/secret", "secret/"),
    ],
)
def test_a_path_that_reaches_something_is_accepted(problems, path):
    assert problems(f'{{rules: {{"{path}": [read]}}}}') == ()


@pytest.mark.parametrize(
    "path", ["backend", "backend/*", "x*", "data2/backend", "airflow/database/main"]
)
def test_one_that_reaches_nothing_is_refused_where_it_is(problems, path):
    (problem,) = problems(f'{{rules: {{"secret/{path}": [read]}}}}')
    assert (problem.code, problem.why) == ("bad-policy", WHY)
    assert problem.fix == f"write secret/data/{path}"
    assert (problem.where.line, problem.where.column) == (6, 21)


def test_a_text_is_read_too(problems, tmp_path):
    text = (
        'path "secret/data/a" { capabilities = ["read"] }\\npath "secret/backend" { policy = "x" }'
    )
    (problem,) = problems("{text: " + repr(text).replace("\\\\n", " ") + "}")
    assert (problem.fix, problem.where.line) == ("write secret/data/backend", 6)
    (tmp_path / "p.hcl").write_text('path "secret/dir/*" { capabilities = ["list"] }')
    (problem,) = problems("{file: p.hcl}")
    assert problem.fix == "write secret/metadata/dir/*"
