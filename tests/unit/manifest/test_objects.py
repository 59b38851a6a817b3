"""Objects of engines by path: what the manifest may say, and what is built of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyflowctl.errors import InvalidInputError
from skyflowctl.manifest.load import load_manifest
from skyflowctl.manifest.model import Manifest, Reference

HEAD = "version: 1\nmanifest: shop\nmounts: {}\nengines:\n"


@pytest.fixture
def load(tmp_path: Path):
    def loaded(text: str, *overlays: str) -> Manifest:
        files = []
        for number, each in enumerate((HEAD + text, *overlays)):
            file = tmp_path / f"m{number}.yaml"
            file.write_text(each)
            files.append(str(file))
        return load_manifest(files, environ={}).manifest

    return loaded


def test_an_object_has_its_path_owner_fields_and_sources(load):
    text = (
        "  a/ws: {type: aws, objects: {config/root: {fields: {region: x, max_retries: 3},"
        " secret: {secret_key: {env: KEY}}, secret_version: 2}}}"
    )
    (one,) = load(text).objects
    assert (one.kind, one.path, one.owner) == ("object", "a/ws/config/root", "sys/mounts/a/ws")
    assert one.fields == {"region": "x", "max_retries": 3}
    assert isinstance(one.secret["secret_key"], Reference)
    assert one.version_option == "secret_version:config/root"
    assert (one.secret_version, one.once) == (2, "")


def test_an_object_that_is_written_once_needs_no_version(load):
    text = (
        "  pki: {type: pki2, objects: {config/ca: {secret: {pem_bundle: {env: CA}},"
        " once: {exists: cert/ca}}}}"
    )
    (one,) = load(text).objects
    assert (one.once, one.secret_version) == ("pki/cert/ca", 0)


def test_an_overlay_changes_one_field_of_an_object(load):
    text = "  ssh: {type: ssh, objects: {roles/ops: {fields: {ttl: 30m, key_type: ca}}}}"
    over = "version: 1\nmanifest: shop\nengines: {ssh: {objects: {roles/ops: {fields: {ttl: 1h}}}}}"
    (one,) = load(text, over).objects
    assert one.fields == {"ttl": "1h", "key_type": "ca"}


BAD = [
    ("{type: kv, objects: {a: {fields: {b: c}}}}", "unknown-key", "objects"),
    ("{type: ssh, secrets: {a: {b: {value: c}}}}", "unknown-key", "secrets"),
    ("{type: ssh, version: 2}", "unknown-key", "version"),
    ("{type: ssh, objects: {a: {secret: {b: {env: C}}}}}", "missing-key", "secret:"),
    ("{type: ssh, objects: {a: {fields: {b: c}, secret_version: 1}}}", "unused-key", "secret_v"),
    ("{type: ssh, objects: {a: {fields: {password: c}}}}", "inline-credential", "c}}"),
    ("{type: ssh, objects: {a: {fields: {b: {c: d}}}}}", "bad-type", "b:"),
    ("{type: ssh, objects: {a: {fields: {B: c}}}}", "bad-name", "B:"),
    ("{type: ssh, objects: {/a: {fields: {b: c}}}}", "bad-name", "/a"),
    ("{type: ssh, objects: {a: {}}}", "empty-value", "a:"),
    (
        (
            "{type: ssh, objects: {a: {fields: {b: c}, secret_version: 1,"
            " secret: {d: {generate: {length: 12}}}}}}"
        ),
        "bad-generate",
        "generate",
    ),
    (
        "{type: ssh, objects: {a: {secret: {b: {exec: [pass]}}, secret_version: 1}}}",
        "bad-reference",
        "pass",
    ),
]


@pytest.mark.parametrize(("engine", "code", "token"), BAD)
def test_what_an_object_must_not_say(load, engine, code, token):
    line = f"  ssh: {engine}"
    with pytest.raises(InvalidInputError) as caught:
        load(line)
    found = {(one.code, (one.where.line, one.where.column)) for one in caught.value.problems}
    assert found == {(code, (5, line.index(token) + 1))}
    assert all(one.why and one.fix for one in caught.value.problems)
