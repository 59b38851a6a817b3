"""What replaces the references of a manifest on a dev stack, and where a person finds it."""

from __future__ import annotations

import stat

import pytest

from skyflowctl.devstack.credentials import DevCredentials
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.stand_ins import with_stand_ins
from skyflowctl.errors import Where
from skyflowctl.manifest.load import load_manifest
from skyflowctl.manifest.model import Manifest, Reference

MANIFEST = """\
version: 1
manifest: people
mounts: {}
auth: {userpass: {users: {alice: {password: {env: ALICE_PW}, policies: [p]}}}}
engines:
  secret: {type: kv, version: 2, secrets: {app: {pw: {env: ALICE_PW}, key: {exec: [/bin/x, hunter2]}}}}
"""


@pytest.fixture
def layout(tmp_path) -> DevLayout:
    layout = DevLayout(tmp_path / "dev")
    layout.create()
    return layout


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    file = tmp_path / "mounts.yaml"
    file.write_text(MANIFEST)
    return load_manifest((str(file),), environ={}).manifest


def test_the_plan_says_that_a_generated_value_replaces_a_reference(manifest, layout):
    planned, _ = with_stand_ins(manifest, layout)
    texts = {one.text for one in planned.references_of_objects}
    generated = "a generated value, in place of "
    assert texts == {f"{generated}env: ALICE_PW", f"{generated}exec: /bin/x and 1 argument"}


def test_each_value_has_one_file_that_is_named_and_shows_no_argument(manifest, layout):
    _, sentences = with_stand_ins(manifest, layout)
    assert len(sentences) == 2
    file = layout.root / "secrets" / "value-env-ALICE_PW"
    assert f"a generated value replaces env: ALICE_PW; apply keeps it in {file}" in sentences
    assert "hunter2" not in "".join(sentences)


def test_the_file_has_what_was_written_and_keeps_it(manifest, layout):
    planned, _ = with_stand_ins(manifest, layout)
    (user,) = (one for one in planned.objects if "password" in one.secret)
    source = DevCredentials(layout, manifest)
    written = source.secret(user.secret["password"], "the password").reveal()
    file = layout.generated_value(user.secret["password"])
    assert file.read_text() == written
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = DevCredentials(layout, manifest).secret(manifest.references_of_objects[0], "pw")
    assert again.reveal() == written  # the same reference, as it was written in the manifest


@pytest.mark.parametrize("name", ["../../x", "A" * 300, "a b"])
def test_a_strange_name_stays_in_the_folder(layout, name):
    path = layout.generated_value(Reference("env", (name,), "", Where()))
    assert path.parent == layout.root / "secrets"
    assert len(path.name) < 120
