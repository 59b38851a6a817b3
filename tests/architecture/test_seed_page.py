"""docs/seed.md: every command and page that it names exists, and every row says where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from skyflowctl.cli.registry import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "seed.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| idea ") and line.count(" | ") == 3
]
VERDICTS = {"provided", "partly", "the server's", "not needed", "not provided"}


def anchors(page: Path) -> set[str]:
    """The places of a page that a link can name: its own anchors, and its headings."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def test_the_page_covers_the_five_documents():
    assert len(ROWS) >= 70
    assert all(all(row) for row in ROWS)
    table = re.findall(r"^\| ([a-z' ]+) \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert set(table) - {"verdict"} == {row[1] for row in ROWS} == VERDICTS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_what_a_row_names_is_there(row):
    names = {command.name for command in COMMANDS}
    for command in re.findall(r"`skyflowctl ([a-z ]+)`", row[3]):
        assert command in names
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", row[3])
    for target, anchor in links:
        page = (PAGE.parent / target).resolve()
        assert page.is_file(), target
        assert not anchor or anchor in anchors(page), (target, anchor)
    assert links or "`skyflowctl " in row[3]


def test_a_section_that_the_manifest_lacks_is_not_called_provided():
    schema = json.loads((ROOT / "schemas" / "mounts.schema.json").read_text())
    for idea, verdict, _, where in ROWS:
        for section in re.findall(r"manifest\.md#(quotas|namespaces|audit_devices)\b", where):
            lacking = schema["properties"][section].get("not") == {}
            assert (verdict == "not provided") == lacking, (
                f"docs/seed.md says otherwise of {section}: {idea}"
            )


def test_no_page_and_no_printed_command_puts_a_query_into_a_path():
    """``bao read 'path?ctx=…'`` is sent as %3F, so it names another role."""
    wrong = re.compile(r"\bbao (?:read|write|list|delete)\b[^\n|`]*\w\?(?:ctx|[a-z_]+)=")
    assert wrong.search("bao read 'skyflow/order/creds/x?ctx=order:1'")
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").iterdir()]
    files += [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.j2")]
    found = [str(one) for one in files if one.is_file() and wrong.search(one.read_text())]
    assert found == []
