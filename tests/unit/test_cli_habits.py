"""E2: flags of bao, vault and terraform, typed by habit."""

from __future__ import annotations

import shlex

import pytest
from support.cli import checked_envelope, invoke

from skyflowctl.cli.app import every_command
from skyflowctl.cli.habits import translate
from skyflowctl.errors import UsageError

OPTIONS = {
    "--output": True,
    "-o": True,
    "--file": True,
    "-f": True,
    "--address": True,
    "--namespace": True,
    "-n": True,
    "--ctx": True,
    "--yes": False,
    "-y": False,
    "--verbose": False,
    "-v": False,
    "--help": False,
}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("-address=https://x", "--address=https://x"),
        ("-address https://x", "--address https://x"),
        ("--address=https://x", "--address=https://x"),
        ("-namespace=team", "--namespace=team"),
        ("-ns=team", "--namespace=team"),
        ("-format=json", "--output json"),
        ("-format json", "--output json"),
        ("--format=table", "--output table"),
        ("-auto-approve", "--yes"),
        ("--auto-approve=true", "--yes"),
        ("-auto-approve=false", ""),
        ("-help", "--help"),
        ("-file=a.yaml", "--file=a.yaml"),
        # Our own forms are left alone.
        ("-ojson -vv -fa.yaml -f b.yaml -o json -y", "-ojson -vv -fa.yaml -f b.yaml -o json -y"),
        ("order -n team --ctx a=b", "order -n team --ctx a=b"),
        # The value of an option is no flag, and behind -- nothing is.
        ("--ctx -format=json", "--ctx -format=json"),
        ("-f -field=x", "-f -field=x"),
        ("-address -field=x", "--address -field=x"),
        ("order -- -format=json -field=x", "order -- -format=json -field=x"),
        ("--format", None),
    ],
)
def test_e2_what_means_the_same_is_taken(given: str, taken: str | None):
    if taken is None:
        with pytest.raises(UsageError):
            translate("plan", given.split(), OPTIONS)
    else:
        assert translate("plan", given.split(), OPTIONS) == taken.split()


def test_e2_the_field_of_the_token_is_the_raw_form():
    for given in (["-field=access_token"], ["-field", "access_token"], ["--field=access_token"]):
        assert translate("creds", given, OPTIONS) == ["--output", "raw"]


@pytest.mark.parametrize(
    ("command", "words", "ours"),
    [
        ("creds order order-producer", "-field=ttl", "jq -r .data.ttl"),
        ("config show order", "-field=key_id", "jq -r .data.key_id"),
        ("creds order order-producer", "-field=x;rm", "jq -r .data.FIELD"),
        ("plan", "-format=yaml", "-o json"),
        ("plan", "-out=tfplan", "skyflowctl apply"),
        ("plan", "-target=order", "skyflowctl plan order"),
        ("apply", "-target module.x[0]", "skyflowctl apply MOUNT"),
        ("validate", "-target=order", "leave it out"),
        ("apply", "-var-file=prod.tfvars", "-f FILE"),
        ("apply", "--var=a=b", "-f FILE"),
        ("plan", "-auto-approve", "leave it out"),
        ("health", "-fiel=access_token", "skyflowctl health --help"),
    ],
)
def test_e2_the_rest_is_64_with_ours_named(command: str, words: str, ours: str):
    line = [*command.split(), *words.split()]
    done = invoke(*line, "-o", "json")
    (problem,) = checked_envelope(done.stdout)["errors"]
    assert (done.exit_code, done.stdout.count("ield=")) == (64, 0)
    assert ours in problem["fix"]
    assert problem["why"]
    assert problem["code"] == "flag-of-habit"
    # Where nothing else asks for it, the error is JSON if -format=json does.
    assert invoke(*line, "-format=json").stdout.startswith("{")


def test_e2_no_command_reads_a_flag_of_habit_as_a_short_option():
    for name, command in every_command():
        for flag in ("-field=zzz", "-format=zzz", "-out=zzz", "-target=zzz", "-namespac=zzz"):
            done = invoke(*name.split(), flag)
            assert done.exit_code == 64, (name, flag, done.output)
            assert "ield=zzz" not in done.output.replace("field=zzz", "")
        assert command.name == name.rpartition(" ")[2]


def test_e2_a_printed_command_is_one_that_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("plan", "-target=order", "-o", "json")
    line = shlex.split(checked_envelope(done.stdout)["errors"][0]["fix"])
    assert line[0] == "skyflowctl"
    again = invoke(*line[1:])
    assert "no such option" not in again.output
    assert again.exit_code == 65  # there is no manifest here
