"""E2: flags of bao, vault and terraform, typed by habit."""

from __future__ import annotations

import shlex

import pytest
from support.cli import checked_envelope, invoke

from skyflowctl.cli.app import every_command
from skyflowctl.cli.habits import behind_the_name, translate
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


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("-address=https://x status", "status -address=https://x"),
        ("-address https://x status order", "status -address https://x order"),
        (
            "--address https://x -ns=team status -o json",
            "status --address https://x -ns=team -o json",
        ),
        ("-namespace plan status", "status -namespace plan"),
        ("-namespace shop config show order", "config show -namespace shop order"),
        ("config -format=json show order", "config show -format=json order"),
        ("-format json config -ns=a show order", "config show -format json -ns=a order"),
        ("-auto-approve apply order", "apply -auto-approve order"),
        ("-field=access_token creds a b", "creds -field=access_token a b"),
        ("-o json -vv status", "status -o json -vv"),
        ("-no-color status", "status -no-color"),
        ("-unknown value status", "status -unknown value"),
        # What stands right, what is nobody's, and help are left alone.
        ("status -address=https://x", "status -address=https://x"),
        ("status order", "status order"),
        ("--version", "--version"),
        ("--help", "--help"),
        ("-- status -x", "-- status -x"),
        ("", ""),
        # A mistyped command is what is told, not the flag before it.
        ("-no-color statsu", "statsu"),
        ("-address=https://x config shwo order", "config shwo order"),
    ],
)
def test_e2_flags_before_the_commands_name_stand_behind_it(given: str, taken: str):
    assert behind_the_name(given.split()) == taken.split()


@pytest.mark.parametrize("given", ["-address=https://x", "-address https://x", "config -ns=a"])
def test_e2_flags_without_a_command_say_so(given: str):
    with pytest.raises(UsageError) as caught:
        behind_the_name(given.split())
    problem = caught.value.problems[0]
    assert problem.summary == "no command is named"
    (printed,) = shlex.split(problem.fix.partition("' lists")[0][1:])[:1]
    assert printed == "skyflowctl"
    assert invoke(*problem.fix.split("'")[1].split()[1:]).exit_code == 0


def test_e2_a_flag_before_the_name_reaches_the_command():
    done = invoke("-address=http://127.0.0.1:1", "-format=json", "-timeout=1s", "status")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["command"]) == (69, "status")
    refused = invoke("-target=order", "-format=json", "plan")
    problem = checked_envelope(refused.stdout)["errors"][0]
    assert (refused.exit_code, problem["code"]) == (64, "flag-of-habit")
    assert "skyflowctl plan order" in problem["fix"]
