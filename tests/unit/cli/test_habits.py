"""E2: flags of bao, vault and terraform, typed by habit."""

from __future__ import annotations

import shlex

import pytest
from support.cli import checked_envelope, invoke, schema_of

from skyflowctl.cli.app import every_command
from skyflowctl.cli.habits import after_command_name, translate
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
        ("-ojson -vv -vy -f b.yaml -o json -y", "-ojson -vv -vy -f b.yaml -o json -y"),
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
        ("creds order order-producer", "-field=ttl", "jq -r '.data.ttl'"),
        ("config show order", "-field=key_id", "jq -r '.data.key_id'"),
        ("creds order order-producer", "-field=x;rm", "access_token"),
        ("plan", "-format=yaml", "-o json"),
        ("apply", "-out=tfplan", "skyflowctl plan --out FILE.json"),
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
    assert after_command_name(given.split()) == taken.split()


@pytest.mark.parametrize("given", ["-address=https://x", "-address https://x", "config -ns=a"])
def test_e2_flags_without_a_command_say_so(given: str):
    with pytest.raises(UsageError) as caught:
        after_command_name(given.split())
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


ONE_DASH = {
    "plan": ["-force", "-no-colour", "-fa.yaml", "-nteam", "-policy-override", "-Force", "-p4"],
    "apply": ["-force", "-nothing", "-output-curl-string", "-yn", "-vfa.yaml"],
    "health": ["-non-interactive", "-o=yaml", "-oyaml"],
}


@pytest.mark.parametrize(
    ("command", "word"), [(name, word) for name, words in ONE_DASH.items() for word in words]
)
def test_point_6_a_word_with_one_dash_is_no_short_option_with_a_value(
    command: str, word: str, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = invoke(command, word, "-o", "json")
    (problem,) = checked_envelope(done.stdout)["errors"]
    assert done.exit_code == 64
    assert problem["summary"].startswith("no such option: -")
    assert "--" in problem["fix"]


@pytest.mark.parametrize(
    ("command", "word", "near"),
    [
        ("plan", "-no-colour", "--no-color"),
        ("plan", "-paralelism", "--parallelism"),
        ("apply", "-namspace", "--namespace"),
        ("apply", "-yess", "--yes"),
        ("health", "-verbos", "--verbose"),
    ],
)
def test_point_6_the_nearest_long_flag_is_named(command: str, word: str, near: str):
    done = invoke(command, word, "-o", "json")
    (problem,) = checked_envelope(done.stdout)["errors"]
    assert f"did you mean {near}?" in problem["fix"]


def test_point_6_holds_for_every_command_and_each_of_its_short_options():
    for name, command in every_command():
        letters = [one[1] for option in command.params for one in option.opts if len(one) == 2]
        assert letters or name == "help"
        for letter in letters:
            done = invoke(*name.split(), f"-{letter}thing", "-o", "json")
            assert done.exit_code == 64, (name, letter, done.output)
            (problem,) = checked_envelope(done.stdout)["errors"]
            assert problem["summary"] == f"no such option: -{letter}thing", (name, letter)


@pytest.mark.parametrize(
    ("line", "expression"),
    [
        ("status -field=health", ".data.mounts[].health"),
        ("status -field=client_id", ".data.mounts[].credential.client_id"),
        ("creds order order-producer -field=token", None),
        ("creds order order-producer -field=wrap_token", ".data.wrap_token"),
        ("plan -field=actions", ".data.actions"),
        ("role show order r -field=role_ids", ".data.role.role_ids"),
    ],
)
def test_point_14_the_fix_for_field_names_one_that_is_there(line: str, expression: str | None):
    done = invoke(*line.split(), "-o", "json")
    (problem,) = checked_envelope(done.stdout)["errors"]
    assert done.exit_code == 64
    printed = problem["fix"].partition("jq -r ")[2].strip("'")
    if expression is not None:
        assert printed == expression
    place = schema_of(checked_envelope(done.stdout)["command"])
    for step in printed.removeprefix(".data.").replace("[]", "").split("."):
        place = next(one for one in properties(place) if step in one)[step]


def properties(schema: dict) -> list[dict]:
    """The properties of a schema, of its items and of its alternatives."""
    found = [schema["properties"]] if "properties" in schema else []
    for below in (schema.get("items"), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        found += properties(below) if below else []
    return found


def test_point_14_a_field_that_is_nowhere_is_said_and_the_others_are_listed():
    done = invoke("creds", "order", "order-producer", "-field=zzz", "-o", "json")
    (problem,) = checked_envelope(done.stdout)["errors"]
    assert problem["why"] == "there is no field zzz"
    assert "access_token" in problem["fix"]
    assert "jq" not in problem["fix"]


@pytest.mark.parametrize("value", ["maybe", "yes", "", "tRuE"])
def test_point_25_auto_approve_takes_a_truth_value_alone(value: str):
    with pytest.raises(UsageError, match="truth value"):
        translate("apply", [f"-auto-approve={value}"], OPTIONS)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("order reader ctx=order:ORD-42", "order reader --ctx=order:ORD-42"),
        ("order reader --ctx ctx=x", "order reader --ctx ctx=x"),
        ("order reader ctx=@file", "order reader ctx=@file"),
        ("order reader ctx=-", "order reader ctx=-"),
    ],
)
def test_e2_the_stock_clients_ctx_field_is_taken_by_creds_alone(given: str, taken: str):
    assert translate("creds", given.split(), OPTIONS) == taken.split()
    assert translate("status", given.split(), OPTIONS) == given.split()


def test_plugin_build_takes_its_directory_as_an_argument():
    done = invoke("plugin", "build", "--out", "plugins", "-o", "json")
    assert done.exit_code == 64
    (error,) = checked_envelope(done.stdout)["errors"]
    assert error["fix"] == "skyflowctl plugin build plugins"
