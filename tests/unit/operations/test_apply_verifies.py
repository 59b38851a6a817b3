"""What apply says of the roles that it tried: refused is 3, no answer is a warning."""

from __future__ import annotations

import dataclasses

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.reached import reached

from skyflowctl.vault.failed_answers import error_for


@pytest.fixture
def applied(tmp_path, monkeypatch):
    server = reached(tmp_path, monkeypatch)
    assert invoke("apply", "-y").exit_code == 0
    server.log.clear()
    return server


def answers(server, **proof):
    """The token service's word on the role of ``pay``."""
    server.proofs["skyflow/pay"] = {
        "reader": {"ok": False, "status": 0, "message": "", "request_id": "", **proof}
    }


def apply_again(*flags):
    done = invoke("apply", "-y", "-o", "json", *flags)
    return done.exit_code, checked_envelope(done.stdout), checked_data(done.stdout)


def test_every_role_is_tried_without_any_action(applied):
    code, whole, data = apply_again()
    assert (code, whole["status"], data["actions"]) == (0, "ok", [])
    assert data["verified"] == [
        {"mount": "order", "role": "writer", "result": "ok"},
        {"mount": "pay", "role": "reader", "result": "ok"},
    ]
    assert "2 of 2 roles mint." in invoke("apply", "-y").stdout


def test_a_refused_role_is_partial_and_named_with_its_place(applied):
    answers(applied, status=401, message="no such role", request_id="r-1")
    code, whole, data = apply_again()
    assert (code, whole["status"], data["actions"]) == (3, "partial", [])
    (error,) = whole["errors"]
    assert (error["code"], error["summary"]) == (
        "role-refused",
        "skyflow/pay/roles/reader does not mint",
    )
    assert "401 no such role (request id r-1)" in error["why"]
    assert error["where"]["line"] == 11
    shown = invoke("apply", "-y")
    assert shown.exit_code == 3
    assert "No changes" not in shown.stdout
    assert "1 of 2 roles mint." in shown.stdout
    applied.proofs.clear()
    assert invoke("apply", "-y").exit_code == 0


@pytest.mark.parametrize(
    ("failing", "shown"),
    [
        (("pay",), "1 of 2 roles mint. 1 not tried."),
        (("pay", "order"), "None of 2 roles was tried"),
    ],
)
def test_roles_of_mounts_that_were_not_applied_in_full_are_not_tried(applied, failing, shown):
    for mount in ("order", "pay"):
        for role in applied.roles[f"skyflow/{mount}"].values():
            role["description"] = "changed"

    def hook(method, path):
        if method == "POST" and any(path.startswith(f"skyflow/{one}/roles/") for one in failing):
            raise error_for(500, ("no",), method=method, path=path)

    applied.hook = hook
    done = invoke("apply", "-y")
    assert shown in done.stdout
    _, _, data = apply_again()
    assert [one["mount"] for one in data["not_tried"]] == sorted(failing)


def test_a_refused_role_makes_a_run_with_changes_partial(applied):
    applied.roles["skyflow/order"]["writer"]["description"] = "changed"
    answers(applied, status=400, message="bad scope")
    code, whole, data = apply_again()
    assert (code, whole["status"]) == (3, "partial")
    assert [one["result"] for one in data["actions"]] == ["done"]


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_no_word_about_the_role_is_a_warning_unless_it_is_required(applied, status):
    answers(applied, status=status, message="no answer")
    code, whole, data = apply_again()
    assert (code, whole["errors"]) == (0, [])
    assert [(one["code"], one["why"]) for one in data["warnings"]] == [("unproven", "no answer")]
    assert "1 role could not be tried" in invoke("apply", "-y").stdout
    code, whole, _ = apply_again("--require-verified")
    assert (code, [one["code"] for one in whole["errors"]]) == (3, ["unproven"])


def test_an_engine_that_cannot_verify_and_gives_no_token_is_unproven(applied):
    def hook(method, path):
        if path == "skyflow/pay/config/verify" or path.startswith("skyflow/pay/creds/"):
            raise error_for(404, ("unsupported path",), method=method, path=path)

    applied.hook = hook
    code, _, data = apply_again()
    assert (code, [one["code"] for one in data["warnings"]]) == (0, ["unproven"])


def test_an_error_that_nobody_foresaw_hides_no_other_mount(applied):
    def hook(method, path):
        if path == "skyflow/pay/config/verify":
            raise ZeroDivisionError("hidden-thing")

    applied.hook = hook
    code, whole, data = apply_again()
    assert [one["result"] for one in data["verified"]] == ["ok", "unproven"]
    assert code == 0
    assert "hidden-thing" not in repr(whole)


def test_roles_that_the_manifest_does_not_name_are_not_its_business(applied):
    answers(applied, ok=True, status=200)
    applied.proofs["skyflow/pay"]["stranger"] = {"ok": False, "status": 401, "message": "no"}
    code, whole, data = apply_again()
    assert (code, whole["status"], whole["errors"]) == (0, "ok", [])
    (warning,) = data["warnings"]
    assert (warning["code"], warning["summary"]) == (
        "undeclared-role",
        "skyflow/pay/roles/stranger does not mint, and is not in the manifest",
    )
    assert "'skyflowctl health pay' is not ok as long as this role is there" in warning["why"]


def test_an_engine_that_may_not_ask_a_host_refuses_and_is_not_called_untried(applied):
    told = "tokenURI names a host that is not allowed: h:1 (allowed: a:443); nothing was sent"
    answers(applied, status=0, message=told)
    code, whole, data = apply_again()
    assert (code, whole["status"]) == (3, "partial")
    assert [one["result"] for one in data["verified"]] == ["ok", "refused"]
    (error,) = whole["errors"]
    assert (error["code"], told in error["why"]) == ("token-uri-refused", True)
    assert "--allow-host HOST:PORT and --reload" in error["fix"]
    assert "could not be tried" not in invoke("apply", "-y").stdout


def test_a_mount_whose_action_failed_is_not_tried(applied):
    def hook(method, path):
        if (method, path) == ("POST", "skyflow/pay/roles/reader"):
            raise error_for(400, ("no",), method=method, path=path)

    applied.hook = hook
    applied.roles["skyflow/pay"]["reader"]["description"] = "changed"
    code, whole, data = apply_again()
    assert [one["mount"] for one in data["verified"]] == ["order"]
    assert len(whole["errors"]) == 1
    assert (code, whole["status"]) == (65, "error")


class TestWhatTheEngineHasTriedItself:
    """A first credential is accepted only after a mint for every role: it is not asked again."""

    def verified(self, server):
        return [path for _, path, _ in server.log if path.endswith("/config/verify")]

    def test_it_is_not_asked_after_a_write_that_refused_no_role(self, tmp_path, monkeypatch):
        server = reached(tmp_path, monkeypatch)
        code, _, data = apply_again()
        assert (code, self.verified(server)) == (0, [])
        assert data["verified"] == [
            {"mount": "order", "role": "writer", "result": "ok"},
            {"mount": "pay", "role": "reader", "result": "ok"},
        ]

    @pytest.mark.parametrize("told", [{"warnings": ["refused [role reader]"]}, {}])
    def test_it_is_asked_if_its_answer_does_not_say_so(self, tmp_path, monkeypatch, told):
        """Our engine lists what was refused; a basic one answers no list at all."""
        server = reached(tmp_path, monkeypatch)
        answer = server.send

        def send(request):
            reply = answer(request)
            if (request.method, request.path) != ("POST", "skyflow/pay/config"):
                return reply
            return dataclasses.replace(reply, data={"version": 1, **told})

        server.send = send
        assert apply_again()[0] == 0
        assert self.verified(server) == ["skyflow/pay/config/verify"]

    def test_it_is_asked_where_only_a_role_was_written(self, applied):
        applied.roles["skyflow/order"]["writer"]["description"] = "changed"
        assert apply_again()[0] == 0
        assert sorted(self.verified(applied)) == [
            "skyflow/order/config/verify",
            "skyflow/pay/config/verify",
        ]
