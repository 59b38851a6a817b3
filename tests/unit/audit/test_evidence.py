"""``--evidence``: the same bytes from the same logs, and nothing else is overwritten."""

import hashlib
import json
import stat
from pathlib import Path

import pytest
from support.audit_logs import three_apps, written
from support.cli import checked_envelope, invoke

from skyflowctl.audit import evidence as module
from skyflowctl.audit.evidence import Evidence, Table, Writing, check_folder, write_evidence
from skyflowctl.audit.model import Counts
from skyflowctl.errors import RefusedError, UsageError


def an_evidence(name: str = "rows", value: object = 1) -> Evidence:
    table = Table(name, ("a", "b"), [(value, "=x"), (None, True)])
    results = {"rows": [{"a": value}]}
    return Evidence("audit who", {"since": None}, (), Counts(), None, None, results, (table,))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "logs/audit.log", three_apps(plain_ctx=True).device())
    return "logs/audit.log"


def test_the_sums_are_those_of_the_files(tmp_path: Path) -> None:
    names = write_evidence(tmp_path / "e", an_evidence())
    files = content(tmp_path / "e")
    assert set(names) == set(files) == {"evidence.json", "results.json", "rows.csv", "SHA256SUMS"}
    lines = files["SHA256SUMS"].decode().splitlines()
    assert lines == [
        f"{hashlib.sha256(files[name]).hexdigest()}  {name}"
        for name in ("evidence.json", "results.json", "rows.csv")
    ]
    assert files["rows.csv"] == b"a,b\r\n1,'=x\r\n,true\r\n"


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    write_evidence(tmp_path / "e", an_evidence())
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "e").iterdir()}
    assert (stat.S_IMODE((tmp_path / "e").stat().st_mode), modes) == (0o700, {0o600})


def test_an_earlier_evidence_is_replaced_whole(tmp_path: Path) -> None:
    write_evidence(tmp_path / "e", an_evidence("old"))
    write_evidence(tmp_path / "e", an_evidence("new", 2))
    assert {"new.csv", "old.csv"} & set(content(tmp_path / "e")) == {"new.csv"}
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_an_empty_folder_and_a_missing_parent_will_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_evidence(tmp_path / "empty", an_evidence())
    write_evidence(tmp_path / "a/b", an_evidence())
    assert content(tmp_path / "empty") == content(tmp_path / "a/b")


@pytest.mark.parametrize("made", ["other", "more", "file", "unmarked"])
def test_nothing_else_is_replaced(tmp_path: Path, made: str) -> None:
    folder = tmp_path / "e"
    if made == "file":
        folder.write_text("mine")
    elif made == "other":
        folder.mkdir()
        (folder / "diary.txt").write_text("mine")
    else:
        write_evidence(folder, an_evidence())
        if made == "more":
            (folder / "notes.txt").write_text("mine")
        else:
            (folder / "evidence.json").write_text("{}")
    before = folder.read_text() if made == "file" else content(folder)
    with pytest.raises(RefusedError):
        check_folder(folder)
    with pytest.raises(RefusedError):
        write_evidence(folder, an_evidence())
    assert (folder.read_text() if made == "file" else content(folder)) == before


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_evidence(tmp_path / "link", an_evidence())
    assert (tmp_path / "link").is_symlink()
    assert "SHA256SUMS" in content(tmp_path / "real")


def test_a_failure_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_evidence(tmp_path / "e", an_evidence())
    before = content(tmp_path / "e")
    monkeypatch.setattr(module, "_put", broken)
    with pytest.raises(UsageError, match="cannot be written"):
        write_evidence(tmp_path / "e", an_evidence(value=2))
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    assert content(tmp_path / "e") == before


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    with Writing(tmp_path / "e") as writing:
        add = writing.rows("requests", ("app", "n"))
        add({"app": "=x", "n": 1, "more": None})
        add({"app": "\ud800", "n": 2, "more": [1]})
        assert not (tmp_path / "e").exists()
        names = writing.finish(Evidence("audit who", {}, (), Counts(), None, None, None))
    files = content(tmp_path / "e")
    assert set(names) == {"evidence.json", "requests.csv", "requests.ndjson", "SHA256SUMS"}
    assert files["requests.csv"] == b"app,n\r\n'=x,1\r\n\\ud800,2\r\n"
    assert json.loads(files["requests.ndjson"].splitlines()[1]) == {
        "app": "\ud800",
        "n": 2,
        "more": [1],
    }
    digest = hashlib.sha256(files["requests.ndjson"]).hexdigest()
    assert f"{digest}  requests.ndjson" in files["SHA256SUMS"].decode()


def test_rows_that_are_not_finished_leave_no_trace(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Writing(tmp_path / "e") as writing:
        writing.rows("requests", ("app",))({})
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_the_same_twice_and_names_no_machine(log: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        words = ("--since", "2026-11-01", "--evidence", folder)
        done = invoke("audit", "report", "logs/*.log", *words, "-q")
        assert done.exit_code == 0, done.output
    assert content(Path("one")) == content(Path("two"))
    whole = b"".join(content(Path("one")).values()).decode()
    assert str(tmp_path) not in whole
    assert "run_id" not in json.loads(Path("one/evidence.json").read_text())


def test_the_summary_says_what_was_asked_and_read(log: str) -> None:
    invoke("audit", "report", log, "--app", "bob", "--since", "2026-11-01", "--evidence", "e")
    told = json.loads(Path("e/evidence.json").read_text())
    assert told["command"] == "audit report"
    assert told["query"]["apps"] == ["bob"]
    assert told["query"]["since"] == "2026-11-01T00:00:00Z"
    digest = hashlib.sha256(Path(log).read_bytes()).hexdigest()
    assert told["inputs"] == [{"name": log, "bytes": Path(log).stat().st_size, "sha256": digest}]
    assert told["counts"]["requests"] == 6
    assert set(told["versions"]) == {"skyflowctl"}
    results = json.loads(Path("e/results.json").read_text())
    assert results["totals"]["requests"] == 2


def test_a_folder_in_the_way_is_told_before_the_logs_are_read(log: str) -> None:
    done = invoke("audit", "report", "nobody.log", "--evidence", "logs", "-o", "json")
    assert done.exit_code == 5
    assert checked_envelope(done.stdout)["errors"][0]["code"] == "evidence-in-the-way"


def test_who_keeps_every_row_and_the_question(log: str, tmp_path: Path) -> None:
    words = ("audit", "who", log, "--app", "b*", "--ctx", "order:*", "--since", "2026-11-01")
    for folder in ("one", "two"):
        done = invoke(*words, "--evidence", folder, "-o", "csv", "-q")
        assert done.exit_code == 0, done.output
    files = content(Path("one"))
    assert files == content(Path("two"))
    assert files["requests.csv"].decode() == done.stdout.replace("\n", "\r\n")
    told = json.loads(files["evidence.json"])
    assert told["command"] == "audit who"
    assert (told["query"]["apps"], told["query"]["ctx"][0]["glob"]) == (["b*"], "order:*")
    assert told["inputs"][0]["sha256"] == hashlib.sha256(Path(log).read_bytes()).hexdigest()
    assert str(tmp_path) not in b"".join(files.values()).decode()


def test_a_mistake_leaves_no_evidence(log: str) -> None:
    done = invoke("audit", "who", log, "nobody.log", "--evidence", "e")
    assert done.exit_code == 65
    assert sorted(path.name for path in Path().iterdir()) == ["logs"]


@pytest.mark.parametrize("command", ["denied", "unused"])
def test_whole_answers_are_kept_too(log: str, command: str) -> None:
    for folder in ("one", "two"):
        done = invoke("audit", command, log, "--evidence", folder, "-o", "json", "-q")
        assert done.exit_code == 0, done.output
    files = content(Path("one"))
    assert files == content(Path("two"))
    told = json.loads(files["evidence.json"])
    assert told["command"] == f"audit {command}"
    assert told["inputs"][0]["sha256"] == hashlib.sha256(Path(log).read_bytes()).hexdigest()
    assert json.loads(files["results.json"]) == json.loads(done.stdout)["data"]
    assert (f"{command}.csv" in files) is bool(json.loads(files["results.json"])[command])
    assert invoke("audit", command, "nobody.log", "--evidence", "logs").exit_code == 5
