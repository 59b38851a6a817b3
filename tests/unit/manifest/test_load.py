"""Reading and merging manifests: values, positions, variables, several files."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from skyflowctl.errors import InvalidInputError, Problem
from skyflowctl.manifest.discover import default_files, existing_files
from skyflowctl.manifest.load import load_manifest

EXAMPLE = Path(__file__).parents[3] / "examples" / "mounts.yaml"
HEAD = "version: 1\nmanifest: shop\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "mounts.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def load(*files: str, **environ: str):
    return load_manifest(files, environ=environ).manifest


def problems_of(*files: str, **environ: str):
    with pytest.raises(InvalidInputError) as caught:
        load_manifest(files, environ=environ)
    return caught.value.problems


def test_the_example_is_what_the_design_asks_for():
    manifest = load(str(EXAMPLE))
    assert manifest.id == "shop-platform"
    assert (manifest.plugin.name, manifest.plugin.version) == ("skyflow", "v1.0.0")
    mounts = {mount.name: mount for mount in manifest.mounts}
    assert list(mounts) == ["order", "purchase", "payment"]
    assert all(len(mount.roles) >= 3 for mount in mounts.values())
    assert [mount.path for mount in manifest.mounts] == [f"skyflow/{name}" for name in mounts]
    assert [name for name, mount in mounts.items() if mount.protect] == ["order"]
    producer = mounts["order"].roles[0]
    assert (producer.name, producer.role_id) == ("order-producer", "skyflow-role-order-prod")
    assert producer.ctx.required
    assert producer.ctx.pattern == "order:*"
    assert mounts["order"].tags == ("env:prod", "product:order")
    assert mounts["payment"].rotation.max_age == timedelta(days=30)
    assert mounts["payment"].rotation.renew_before == timedelta(days=14)


def test_every_example_role_takes_the_ctx_of_its_comment():
    from skyflowctl.engine.ctx import CtxRule

    lines = EXAMPLE.read_text().splitlines()
    roles = {
        f"{mount.path}/creds/{role.name}": role
        for mount in load(str(EXAMPLE)).mounts
        for role in mount.roles
    }
    shown = [line.split("bao read ")[1].split() for line in lines if "# bao read" in line]
    for path, *words in shown:
        ctx = words[0].removeprefix("ctx=") if words else None
        CtxRule.of(roles[path].ctx.required, roles[path].ctx.pattern).check(ctx)
    written = {line.split()[-2] for line in lines if "bao write" in line}
    assert {path for path, *_ in shown} | written == set(roles)


def test_defaults_are_what_the_schema_says(write):
    manifest = load(write(HEAD + "mounts: {order: {roles: {r: {role_ids: [a]}}}}\n"))
    mount = manifest.mounts[0]
    assert manifest.plugin.name == "skyflow"
    assert manifest.plugin.version is None
    assert (mount.path, mount.protect, mount.plain_ctx) == ("skyflow/order", False, False)
    assert mount.credentials is None
    assert mount.rotation.source == "reference"
    assert mount.roles[0].ctx.required is False
    assert mount.roles[0].ctx.probe == ""


def test_positions_are_those_of_keys_and_of_reference_values(write):
    text = HEAD + "mounts:\n  order:\n    credentials: {env: ORDER}\n    roles:\n      r:\n"
    mount = load(write(text + "        role_ids: [a]\n")).mounts[0]
    assert (mount.where.line, mount.where.column, mount.where.pointer) == (4, 3, "/mounts/order")
    assert (mount.roles[0].where.line, mount.roles[0].where.column) == (7, 7)
    assert (mount.credentials.where.line, mount.credentials.where.column) == (5, 24)
    assert mount.credentials.where.pointer == "/mounts/order/credentials/env"


def test_a_pattern_makes_ctx_required_unless_it_says_otherwise(write):
    role = "{role_ids: [a], ctx: {%s pattern: 'a:*', probe: 'a:b'}}"
    roles = f"said: {role % 'required: false,'}, implied: {role % ''}"
    mount = load(write(HEAD + f"mounts: {{order: {{roles: {{{roles}}}}}}}\n")).mounts[0]
    assert {role.name: role.ctx.required for role in mount.roles} == {
        "said": False,
        "implied": True,
    }


def test_an_explicit_path_wins_over_the_prefix(write):
    text = HEAD + "defaults: {path_prefix: a/b}\nmounts: {one: {path: c/d}, two: {}}\n"
    assert [mount.path for mount in load(write(text)).mounts] == ["c/d", "a/b/two"]


def test_a_move_names_paths_of_the_server(write):
    text = HEAD + (
        "defaults: {path_prefix: a/b}\n"
        "mounts:\n"
        "  one: {path: c/d, roles: {r: {role_ids: [x]}, s: {role_ids: [x]}}}\n"
        "  two: {roles: {r: {role_ids: [x]}}}\n"
        "moved:\n"
        "- {from: a/b/zwei, to: a/b/two}\n"
        "- {from: one/roles/q, to: one/roles/r}\n"
        "- {from: gone/roles/q, to: c/d/roles/s}\n"
        "- {from: e/f/roles/r, to: two/roles/r}\n"
    )
    moved = load(write(text)).moved
    assert [(one.kind, one.old, one.new, one.where.line) for one in moved] == [
        ("mount", "a/b/zwei", "a/b/two", 8),
        ("role", "c/d/roles/q", "c/d/roles/r", 9),
        ("role", "a/b/gone/roles/q", "c/d/roles/s", 10),
        ("role", "e/f/roles/r", "a/b/two/roles/r", 11),
    ]


def test_the_rotation_block_is_kept_for_later(write):
    rotation = (
        "{source: generate, operator_token: {env: OPERATOR}, account_id: acc, retire_margin: 1h}"
    )
    rule = load(write(HEAD + f"mounts: {{order: {{rotation: {rotation}}}}}\n")).mounts[0].rotation
    assert rule.source == "generate"
    assert rule.operator_token.target == ("OPERATOR",)
    assert (rule.account_id, rule.retire_margin) == ("acc", timedelta(hours=1))


def test_references_of_each_kind(write, tmp_path):
    text = HEAD + (
        "mounts:\n  a: {credentials: {file: keys/a.json}}\n  b: {credentials: {env: B_KEY}}\n"
        "  c: {credentials: {keyring: {service: s, username: u}}}\n  d: {credentials: {file: /x/d.json}}\n"
    )
    found = [mount.credentials for mount in load(write(text)).mounts]
    assert [one.scheme for one in found] == ["file", "env", "keyring", "file"]
    assert [one.target for one in found] == [
        (str(tmp_path / "keys" / "a.json"),),
        ("B_KEY",),
        ("s", "u"),
        ("/x/d.json",),
    ]
    assert found[0].text == "file: keys/a.json"


def test_a_relative_file_belongs_to_the_file_that_names_it(write, tmp_path):
    base = write(HEAD + "mounts: {a: {credentials: {file: a.json}}, b: {}}\n", "base/m.yaml")
    over = write("mounts: {b: {credentials: {file: b.json}}}\n", "over/m.yaml")
    found = [mount.credentials.target[0] for mount in load(base, over).mounts]
    assert found == [str(tmp_path / "base/a.json"), str(tmp_path / "over/b.json")]


def test_merge_maps_by_key_and_lists_replaced(write):
    base = write(
        HEAD
        + "defaults: {tags: [x]}\nmounts: {a: {description: one, tags: [p, q], protect: true}}\n",
        "base.yaml",
    )
    over = write("mounts: {a: {description: two, tags: [r]}, b: {}}\n", "over.yaml")
    manifest = load(base, over)
    first, second = manifest.mounts
    assert (first.description, first.tags, first.protect) == ("two", ("x", "r"), True)
    assert second.name == "b"
    assert manifest.files == (base, over)


def test_default_tags_come_first_and_each_tag_once(write):
    text = HEAD + "defaults: {tags: [env:prod, x]}\nmounts: {a: {tags: [b, x]}}\n"
    assert load(write(text)).mounts[0].tags == ("env:prod", "x", "b")


def test_a_later_reference_replaces_the_earlier_one_whole(write):
    base = write(HEAD + "mounts: {a: {credentials: {file: a.json}}}\n", "base.yaml")
    over = write("mounts: {a: {credentials: {env: A_KEY}}}\n", "over.yaml")
    assert load(base, over).mounts[0].credentials.target == ("A_KEY",)


def test_a_mount_may_be_called_like_a_whole_value(write):
    base = write(HEAD + "mounts: {credentials: {protect: true}, roles: {}}\n", "base.yaml")
    over = write("mounts: {credentials: {description: d}}\n", "over.yaml")
    mount = load(base, over).mounts[0]
    assert (mount.name, mount.protect, mount.description) == ("credentials", True, "d")


def test_problems_of_several_files_are_in_their_order(write):
    base = write(HEAD + "mounts:\n  a: {description: 1}\n  b: {tags: [c]}\n", "base.yaml")
    over = write("mounts:\n  b: {tag: 1}\n  a: {protect: no}\n", "over.yaml")
    told = [(p.where.file, p.where.line, p.where.column, p.code) for p in problems_of(over, base)]
    assert told == [
        (over, 2, 7, "unknown-key"),
        (over, 3, 16, "quote-it"),
        (base, 4, 20, "quote-it"),
    ]


def test_a_file_that_is_no_yaml_does_not_hide_the_others(write):
    broken = write("version: [\n", "broken.yaml")
    other = write(HEAD + "mounts: {a: {description: off}}\n", "other.yaml")
    assert [p.code for p in problems_of(broken, other)] == ["yaml-syntax", "quote-it"]


def test_a_missing_file_is_said_with_its_name(tmp_path):
    (problem,) = problems_of(str(tmp_path / "none.yaml"))
    assert problem.code == "manifest-not-found"
    assert "none.yaml" in problem.summary
    assert "skyflowctl init" in problem.fix


@pytest.mark.parametrize("kind", ["folder", "pipe", "locked"])
def test_what_cannot_be_read_is_said_at_once(tmp_path, kind):
    import os

    path = tmp_path / "m.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = tmp_path / "a\0b"
    (problem,) = problems_of(str(path))
    assert problem.code == "manifest-unreadable"


def test_a_file_over_the_size_limit_is_refused(write, monkeypatch):
    monkeypatch.setattr("skyflowctl.manifest.files.MANIFEST_MAX_BYTES", 100)
    (problem,) = problems_of(write("# " + "x" * 100))
    assert problem.code == "manifest-too-large"


def test_standard_input_is_a_file_too(monkeypatch, tmp_path):
    text = HEAD + "mounts: {a: {credentials: {file: a.json}, tags: 1}}\n"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    (problem,) = problems_of("-")
    assert (problem.where.file, problem.where.line) == ("<stdin>", 3)
    good = io.BytesIO(text.replace(", tags: 1", "").encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=good))
    assert load("-").mounts[0].credentials.target == (str(tmp_path / "a.json"),)


def test_a_byte_order_mark_is_no_character_of_the_file(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode() + b"mounts: {a: {tags: 1}}\n")
    (problem,) = problems_of(str(path))
    assert (problem.where.line, problem.where.column) == (3, 20)


def test_variables_in_values(write):
    text = HEAD + (
        "mounts:\n  a:\n    description: in ${REGION} of ${TEAM:-nobody}${EMPTY:-!} costs $$ and $${X}\n"
        "    tags: ['env:${STAGE}']\n"
    )
    mount = load(write(text), REGION="eu", STAGE="dev", EMPTY="").mounts[0]
    assert mount.description == "in eu of nobody! costs $$ and ${X}"
    assert mount.tags == ("env:dev",)


def test_a_variable_is_always_text(write):
    text = HEAD + "mounts: {a: {description: '${N}'}, b: {description: '${N}', protect: '${B}'}}\n"
    (problem,) = problems_of(write(text), N="42", B="true")
    assert problem.code == "bad-type"
    assert problem.where.pointer == "/mounts/b/protect"


@pytest.mark.parametrize(
    "name",
    ["DB_PASSWORD", "API_TOKEN", "MY_SECRET", "SSH_KEY", "KEY", "CREDENTIAL", "PRIVATE_X", "token",
     "DEPLOY_KEYS", "DB_PWD", "GITHUB_TOKEN_2"],
)  # fmt: skip
def test_secret_looking_variables_are_refused_and_not_shown(write, name):
    text = HEAD + f"mounts: {{a: {{description: '${{{name}:-x}}'}}}}\n"
    (problem,) = problems_of(write(text), **{name: "the-value"})
    assert problem.code == "secret-interpolation"
    assert "the-value" not in str(problem)


@pytest.mark.parametrize("name", ["HOME", "REGION", "KEYBOARD", "TEAM_NAME", "STAGE_2"])
def test_ordinary_variables_are_not_refused(write, name):
    text = HEAD + f"mounts: {{a: {{description: '${{{name}}}'}}}}\n"
    assert load(write(text), **{name: "v"}).mounts[0].description == "v"


def test_a_variable_with_line_breaks_is_refused(write):
    text = HEAD + "mounts: {a: {description: '${X}'}}\n"
    (problem,) = problems_of(write(text), X="a\nb: c")
    assert problem.code == "bad-variable"


def test_a_credential_from_a_variable_is_refused_too(write):
    text = HEAD + "mounts: {a: {description: '${X}'}}\n"
    (problem,) = problems_of(write(text), X="-----BEGIN PRIVATE KEY-----")
    assert problem.code == "inline-credential"


def test_keys_are_never_replaced(write):
    (problem,) = problems_of(write(HEAD + "mounts: {'${X}': {}}\n"), X="order")
    assert problem.code == "bad-name"


def test_anchors_and_merge_keys(write):
    text = HEAD + (
        "mounts:\n  a: &base\n    tags: [x]\n    protect: true\n"
        "  b: {<<: *base, protect: false}\n  c: *base\n"
    )
    first, second, third = load(write(text)).mounts
    assert (first.tags, first.protect) == (("x",), True)
    assert (second.tags, second.protect) == (("x",), False)
    assert (third.tags, third.where.line) == (("x",), 8)


def test_yaml_1_2_values(write):
    probe = "{t: true, f: False, i: -7, d: 1.5, s: plain, q: '007', v: y}"
    text = HEAD + f"mounts: {{a: {{roles: {{r: {{role_ids: [x], ctx: {{probe: {probe}}}}}}}}}}}\n"
    assert load(write(text)).mounts[0].roles[0].ctx.probe == {
        "t": True, "f": False, "i": -7, "d": 1.5, "s": "plain", "q": "007", "v": "y",
    }  # fmt: skip


def test_plain_ctx_is_a_warning_at_its_place(write):
    text = (
        HEAD
        + "defaults: {audit: {plain_ctx: true}}\nmounts: {a: {audit: {plain_ctx: false}}, b: {}}\n"
    )
    loaded = load_manifest([write(text)], environ={})
    assert [mount.plain_ctx for mount in loaded.manifest.mounts] == [False, True]
    (warning,) = loaded.warnings
    assert (warning.code, warning.where.line, warning.where.column) == ("plain-ctx", 3, 31)


@pytest.mark.parametrize("secret", ["A" * 30 + "z9", "MIIE" + "x7" * 40, "hvs." + "B7" * 15])
def test_no_message_repeats_what_may_be_a_key(write, secret):
    text = HEAD + (
        f"plugin: {{version: {secret}}}\n{secret}: 1\nmounts:\n  {secret}: {{}}\n  a:\n"
        f"    path: /{secret}\n    credentials: {secret}\n    rotation: {{max_age: {secret}}}\n"
        f"    roles: {{r: {{role_ids: {secret}, {secret}: 1}}}}\n"
    )
    told = problems_of(write(text))
    assert len(told) >= 6
    windows = {secret[start : start + 24] for start in range(len(secret) - 23)}
    assert not [problem for problem in told if any(part in repr(problem) for part in windows)]


def test_a_secret_in_the_place_of_its_reference_is_not_repeated(write):
    text = HEAD + "mounts: {a: {credentials: {env: 'hunter2!'}}, b: {credentials: hunter2!}}\n"
    told = problems_of(write(text))
    assert [problem.code for problem in told] == ["bad-value", "bad-reference"]
    assert "hunter2" not in repr(told)


def test_which_files_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_files(["a", "b"], {"SKYFLOWCTL_FILE": "c"}) == ("a", "b")
    assert default_files([], {"SKYFLOWCTL_FILE": "c"}) == ("c",)
    assert default_files([], {}) == ("mounts.yaml",)
    assert existing_files([], {}) == ()
    assert existing_files(["a"], {}) == ("a",)
    assert existing_files([], {"SKYFLOWCTL_FILE": "c"}) == ("c",)
    (tmp_path / "mounts.yaml").touch()
    assert existing_files([], {}) == ("mounts.yaml",)


def test_pure_python_yaml_says_the_same(monkeypatch):
    cases = sorted((Path(__file__).parents[2] / "scenarios" / "bad_manifests").glob("*.yaml"))
    cases = [case for case in cases if not case.stem.startswith("yaml-")]
    fast = [problems_of(str(case), HOME="/home/someone") for case in cases]
    monkeypatch.setattr("yaml.__with_libyaml__", False)
    assert [problems_of(str(case), HOME="/home/someone") for case in cases] == fast


def test_pure_python_yaml_reads_the_example(monkeypatch):
    fast = load(str(EXAMPLE))
    monkeypatch.setattr("yaml.__with_libyaml__", False)
    assert load(str(EXAMPLE)) == fast


def test_two_hundred_thousand_nested_lists_do_not_crash(write):
    (problem,) = problems_of(write("a: " + "- " * 200_000))
    assert problem.code in ("too-deep", "yaml-syntax")
    (problem,) = problems_of(write("a: " + "[" * 200_000))
    assert problem.code == "too-deep"


def refusals(*files: Path) -> tuple[Problem, ...]:
    with pytest.raises(InvalidInputError) as caught:
        load_manifest([str(file) for file in files], environ={})
    return caught.value.problems


def test_files_of_two_manifests_are_refused_with_both_positions(tmp_path):
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text("version: 1\nmanifest: shop\nmounts: {}\n")
    other.write_text("version: 1\nmounts: {}\nmanifest: stock\n")
    (problem,) = refusals(one, other)
    assert problem.code == "manifest-differs"
    assert (problem.where.file, problem.where.line) == (str(other), 3)
    assert problem.why.startswith(f"{one}:2:11 names the other")


def test_a_file_that_does_not_exist_is_told_from_one_that_cannot_be_read(tmp_path):
    file = tmp_path / "mounts.yaml"
    file.write_text(
        "version: 1\nmanifest: shop\nmounts: {}\npolicies: {p: {file: p.hcl}}\n"
        "auth: {cert: {certificate: {file: no.pem}}}\n"
    )
    found = {one.code: one.why for one in refusals(file)}
    assert found == dict.fromkeys(["file-unreadable", "policy-unreadable"], "there is no such file")
    (tmp_path / "p.hcl").write_bytes(b"\xff")
    found = {one.code: one.why for one in refusals(file)}
    assert found["policy-unreadable"].startswith("it is not a readable UTF-8 text file")


def test_keys_of_another_engine_are_one_error_with_the_form_that_is_meant(tmp_path):
    file = tmp_path / "mounts.yaml"
    body = "{type: ssh, roles: {ops: {key_type: otp, default_user: ops}}}"
    file.write_text(f"version: 1\nmanifest: shop\nmounts: {{}}\nengines: {{ssh: {body}}}\n")
    (problem,) = refusals(file)
    assert problem.fix == "write objects: {roles/NAME: {fields: …}}"
