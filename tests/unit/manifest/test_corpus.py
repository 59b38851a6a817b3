"""Every case of tests/scenarios/bad_manifests: exactly its problems, each at its place.

A case says what it expects in lines ``CODE LINE:COLUMN SUMMARY`` (the summary may be cut
short): after ``# expect:`` in the file itself, or, where a comment would change what is
wrong with it, in a file NAME.expect beside it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from skyflowctl.errors import ExitCode, InvalidInputError
from skyflowctl.manifest.load import load_manifest

CORPUS = Path(__file__).parents[2] / "scenarios" / "bad_manifests"
CASES = sorted(CORPUS.glob("*.yaml"))
MARK = "# expect: "


def expectations(case: Path) -> list[tuple[str, str, str]]:
    beside = case.with_suffix(".expect")
    if beside.exists():
        lines = beside.read_text().splitlines()
    else:
        text = case.read_text().splitlines()
        lines = [line.removeprefix(MARK) for line in text if line.startswith(MARK)]
    return [tuple(line.split(" ", 2)) for line in lines]


def test_there_are_more_than_sixty_cases():
    assert len(CASES) > 60


AROUND = ("auth", "consumer", "engine", "kv", "login", "moved", "policy", "reference")


@pytest.mark.parametrize("section", AROUND)
def test_what_stands_around_the_mounts_has_cases_of_its_own(section):
    named = {case.stem.split("-")[0] for case in CASES}
    assert section in named
    assert sum(case.stem.split("-")[0] in AROUND for case in CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_bad_manifest(case):
    with pytest.raises(InvalidInputError) as caught:
        load_manifest([str(case)], environ={"HOME": "/home/someone"})
    problems = caught.value.problems
    expected = expectations(case)
    told = [f"{p.code} {p.where.line}:{p.where.column} {p.summary}" for p in problems]
    assert expected
    assert len(told) == len(expected), told
    for problem, (code, place, fragment) in zip(problems, expected, strict=True):
        assert problem.code == code
        assert f"{problem.where.line}:{problem.where.column}" == place
        assert fragment.replace(case.name, str(case)) in problem.summary
        assert problem.where.file == str(case)
        assert all((problem.summary, problem.why, problem.fix)), problem
    assert caught.value.exit_code is ExitCode.INVALID


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_problems_never_hold_line_breaks_or_control_characters(case):
    with pytest.raises(InvalidInputError) as caught:
        load_manifest([str(case)], environ={"HOME": "/home/someone"})
    for problem in caught.value.problems:
        for text in (problem.summary, problem.why, problem.fix, problem.where.pointer or ""):
            assert text.isprintable(), text
