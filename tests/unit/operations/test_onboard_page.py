"""The pages on onboarding an application: each of their snippets is what its command prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import trustme
import yaml
from support.cli import invoke
from support.how_to import HOW_TO

from skyflowctl.operations.consumer_manifest.write import FAMILIES

PAGE = (HOW_TO / "onboard-application.md").read_text()
SNIPPET = re.compile(
    r"^```sh\n(skyflowctl consumer manifest [^\n]*)\n```\n\n```(?:hcl|yaml|python|js|java|go|ini)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
IN_CODE = (HOW_TO / "token-in-code.md").read_text()
SNIPPETS = SNIPPET.findall(PAGE) + SNIPPET.findall(IN_CODE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a manifest that has the page's consumers and login methods."""
    declared = PAGE.partition("## Configure the platform")[0]
    found = re.findall(r"^```yaml\n(.*?)^```$", declared, re.MULTILINE | re.DOTALL)
    parts = [yaml.safe_load(one) for one in found]
    consumers: dict[str, object] = {}
    auth: dict[str, object] = {"approle": {}}
    for part in parts:
        consumers |= part.get("consumers", {})
        auth |= part.get("auth", {})
    ctx = {"required": True, "pattern": "order:*", "probe": "order:probe"}
    role = {"role_ids": ["skyflow-role-order-prod"], "ctx": ctx, "consumers": consumers}
    mount = {"credentials": {"file": "order.json"}, "roles": {"order-producer": role}}
    manifest = {"version": 1, "manifest": "shop", "mounts": {"order": mount}, "auth": auth}
    (tmp_path / "mounts.yaml").write_text(yaml.safe_dump(manifest))
    for name in ("k8s-ca.pem", "clients-ca.pem"):
        trustme.CA().cert_pem.write_to_path(str(tmp_path / name))
    return tmp_path


def test_the_pages_have_a_snippet_for_each_platform_and_language() -> None:
    named = [re.search(r"--for (\w+)", line)[1] for line, _ in SNIPPETS]
    assert named == list(FAMILIES)


@pytest.mark.parametrize(("line", "snippet"), SNIPPETS, ids=list(FAMILIES))
def test_a_snippet_of_the_page_is_what_its_command_prints(
    folder: Path, line: str, snippet: str
) -> None:
    done = invoke(*shlex.split(line)[1:], "-f", str(folder / "mounts.yaml"))
    assert done.exit_code == 0, done.stderr
    assert done.stdout == snippet


def test_a_recipe_has_at_most_sixty_lines() -> None:
    recipes = [text for _, text in SNIPPET.findall(IN_CODE)]
    assert recipes
    assert all(len(text.splitlines()) <= 60 for text in recipes)


def test_a_token_is_exported_before_the_next_command_reads_it() -> None:
    for page in HOW_TO.glob("*.md"):
        lines = page.read_text().splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.lstrip("- ").startswith("BAO_TOKEN=$("):
                assert following.lstrip("- ") == "export BAO_TOKEN", (page.name, line)


def test_the_dev_stacks_key_is_named_by_its_folder() -> None:
    assert "$SKYFLOWCTL_DEV_DIR/tls/server.key" in PAGE
    assert ".skyflowctl/dev/tls" not in PAGE
