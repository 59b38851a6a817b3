"""What ``audit report`` writes over: its own earlier output, and nothing that it reads."""

import os
from pathlib import Path

import pytest
from support.audit_logs import three_apps, written
from support.cli import checked_envelope, invoke

from skyflowctl.errors import UsageError
from skyflowctl.operations.audit_report import write_files

MANIFEST = (
    "version: 1\nmanifest: shop\nmounts:\n  order:\n    credentials: {file: key.json}\n"
    "    roles:\n      r: {role_ids: [role-1]}\n"
)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "snap.log", three_apps(plain_ctx=True).device())
    return "snap.log"


def refused(*words: str) -> str:
    done = invoke("audit", "report", *words, "-o", "json", "-q")
    assert done.exit_code == 5, done.output
    error = checked_envelope(done.stdout)["errors"][0]
    assert error["why"]
    assert error["fix"]
    return error["code"]


@pytest.mark.parametrize("link", ["itself", "hard", "symbolic", "empty"])
def test_a_log_is_never_replaced_by_the_page(log: str, link: str) -> None:
    page = log if link in {"itself", "empty"} else "page.html"
    if link == "hard":
        os.link(log, page)
    elif link == "symbolic":
        Path(page).symlink_to(log)
    elif link == "empty":
        Path(log).write_bytes(b"")
    before = Path(log).read_bytes()
    assert refused(log, "--html", f"./{page}") == "output-is-input"
    assert Path(log).read_bytes() == before
    assert Path(page).is_symlink() == (link == "symbolic")


def test_nor_is_the_manifest_or_a_log_named_like_a_table(log: str) -> None:
    Path("mounts.yaml").write_text(MANIFEST)
    assert refused(log, "-f", "mounts.yaml", "--html", "mounts.yaml") == "output-is-input"
    assert refused(log, "--html", "mounts.yaml") == "output-is-input"
    assert Path("mounts.yaml").read_text() == MANIFEST
    Path("tables").mkdir()
    os.link(log, "tables/usage.csv")
    assert refused(log, "--csv", "tables") == "output-is-input"
    assert refused(log, "--csv", log) == "output-is-input"
    assert refused(log, "--evidence", log) == "output-is-input"


def test_evidence_that_is_read_as_a_log_is_not_replaced(log: str) -> None:
    assert invoke("audit", "report", log, "--evidence", "e", "-q").exit_code == 0
    assert refused("e/results.json", "--evidence", "e") == "output-is-input"


def test_only_an_earlier_page_or_an_empty_file_is_replaced(log: str) -> None:
    Path("page.html").touch()
    for _ in range(2):
        assert invoke("audit", "report", log, "--html", "page.html", "-q").exit_code == 0
    page = Path("page.html").read_text()
    assert page.startswith("<!doctype html>")
    Path("page.html").write_text("<!-- mine -->" + page)
    assert refused(log, "--html", "page.html") == "output-in-the-way"
    assert Path("page.html").read_text().startswith("<!-- mine -->")
    Path("gone.html").symlink_to("nowhere")
    assert refused("nobody.log", "--html", "gone.html") == "output-in-the-way"


def test_only_earlier_tables_are_replaced(log: str) -> None:
    Path("tables").mkdir()
    Path("tables/diary.csv").write_text("mine")
    for _ in range(2):
        assert invoke("audit", "report", log, "--csv", "tables", "-q").exit_code == 0
    Path("tables/hours.csv").write_text("who,hours\nme,8\n")
    before = {path: path.read_bytes() for path in Path("tables").iterdir()}
    assert refused(log, "--app", "bob", "--csv", "tables") == "output-in-the-way"
    assert {path: path.read_bytes() for path in Path("tables").iterdir()} == before


def test_files_take_their_places_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def broken() -> object:
        yield "half"
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match="b cannot be written"):
        write_files([(tmp_path / "a", ["new"]), (tmp_path / "b", broken())])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
    write_files([(tmp_path / "a", ["new"]), (tmp_path / "b", ["b"])])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "b"}


@pytest.mark.parametrize("command", ["report", "who", "denied"])
def test_evidence_of_a_span_is_warned_of(log: str, command: str) -> None:
    words = ("audit", command, log, "--evidence", "e")
    told = invoke(*words, "--since", "9000d")
    assert told.exit_code == 0, told.output
    assert "resolved now" in told.stderr
    assert "absolute times" in told.stderr
    assert "resolved now" not in invoke(*words, "--since", "2026-11-01").stderr
    assert "resolved now" not in invoke("audit", command, log, "--since", "9000d").stderr


@pytest.mark.parametrize("command", ["report", "who", "denied", "tail"])
@pytest.mark.parametrize("flag", ["--since", "--until"])
def test_an_empty_time_is_not_left_out_in_silence(log: str, command: str, flag: str) -> None:
    done = invoke("audit", command, log, flag, "", "-o", "json")
    assert done.exit_code == 64
    error = checked_envelope(done.stdout)["errors"][0]
    assert error["code"] == "empty-time"
    assert flag in error["fix"]
