"""``approvals``: what is written of the stored requests, and of a request's effect."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.cli import checked_envelope, invoke

from skyflowctl.cli.commands import approvals
from skyflowctl.errors import UsageError

PATH = "skyflow/" + "a-long-name-of-a-mount-" * 5 + "/config"
SHOWN = {
    "operation": "delete", "path": "m/x", "age_seconds": None, "ttl": None, "approved": False,
    "approved_by": [], "requester": {"name": "ana", "logins": []}, "changes": [],
    "compared": False, "effect": "",
}  # fmt: skip


class Lines:
    """A terminal that keeps its lines."""

    def __init__(self) -> None:
        self.out = io.StringIO()

    def line(self, *parts: object) -> None:
        texts = (one if isinstance(one, str) else getattr(one, "text", "") for one in parts)
        self.out.write("".join(texts) + "\n")

    def fields(self, rows: object) -> None:
        """Not looked at."""


def text_of(view: Any, data: object) -> str:
    terminal = Lines()
    view(data, cast("Any", terminal))
    return terminal.out.getvalue()


def test_a_listed_path_is_whole_and_has_its_time_left():
    one = {"method": "POST", "path": PATH, "accessor": "acc", "state": "waiting", "run": "r1",
           "expires_at": "2999-01-01T00:00:00Z"}  # fmt: skip
    first, second = text_of(
        approvals._view_list, SimpleNamespace(data={"requests": [one]})
    ).splitlines()
    assert first == f"POST {PATH}"
    assert second.startswith("  acc  waiting  ")
    assert " left  r1" in second
    assert "2999" not in second


def test_no_changes_is_said_only_of_what_was_compared():
    same = "No changes: the live state is the same."
    assert same in text_of(approvals._show_request, {**SHOWN, "compared": True})
    effect = "deletes m/x; its content was not read"
    told = text_of(approvals._show_request, {**SHOWN, "effect": effect})
    assert effect in told
    assert same not in told


def test_a_file_in_no_folder_is_refused_and_a_used_up_one_is_named(tmp_path):
    notices: list[str] = []
    run = cast("Any", SimpleNamespace(notice=notices.append))
    with pytest.raises(UsageError):
        approvals._refuse_missing(str(tmp_path / "nope" / "x.json"), run)
    approvals._refuse_missing(str(tmp_path / "x.json"), run)
    assert len(notices) == 1
    assert "there is no file" in notices[0]


@pytest.mark.parametrize("words", [("show",), ("approve", "-y")])
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_accessor_is_refused_before_any_request(words, empty):
    env = {"BAO_ADDR": "https://127.0.0.1:1", "BAO_TOKEN": "s.x"}
    command, *more = words
    done = invoke("approvals", command, empty, *more, "-o", "json", env=env)
    assert done.exit_code == 64, done.output
    assert checked_envelope(done.stdout)["errors"][0]["code"] == "no-accessor"
