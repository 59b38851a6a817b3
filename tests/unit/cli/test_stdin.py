"""Standard input has one reader."""

from __future__ import annotations

import os

import pytest
from support.cli import checked_envelope, invoke

MANIFEST = "version: 1\nmanifest: shop\nmounts:\n  order: {credentials: {env: KEY}}\n"
TARGET = ("--address", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (("plan", "-f", "-", "--token-file", "-", *TARGET), {}),
        (("validate", "-f", "-", "-f", "-"), {}),
        (("creds", "order", "writer", "--token-file", "-", "-f", "-", *TARGET), {}),
        (("status", "--token-file", "-", *TARGET), {"SKYFLOWCTL_FILE": "-"}),
    ],
)
def test_two_readers_of_standard_input_are_refused_by_name(words, env):
    done = invoke(*words, "-o", "json", env=env, stdin=MANIFEST)
    (problem,) = checked_envelope(done.stdout)["errors"]
    assert (done.exit_code, problem["code"]) == (64, "stdin-twice")
    assert problem["summary"].startswith("-f - and ")


def test_one_reader_is_enough():
    assert invoke("validate", "-f", "-", stdin=MANIFEST).exit_code == 0


def test_a_pipe_under_another_name_is_told_how_it_is_read():
    reading, writing = os.pipe()
    try:
        done = invoke("validate", "-f", f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)
    assert done.exit_code == 65
    assert "fix: pipe it in, with -f -" in done.stderr
