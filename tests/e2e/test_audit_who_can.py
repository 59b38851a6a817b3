"""``audit who-can``: each login that it names reads the creds, and each other one gets 403."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.audit_story import ORDER, Admin, App, Story, http_of, reads
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.timeout(180)]

ROLE = "order-producer"
PATH = f"{ORDER}/creds/{ROLE}"
PASSWORD = "not-a-secret-of-anybody"
DENY = f'path "{PATH}" {{ capabilities = ["deny"] }}'
POLICIES = {
    "exact": reads(PATH),
    "plus": reads("skyflow/+/creds/*"),
    "prefix": reads(f"{ORDER}/*"),
    "deny": DENY,
    "other": reads(f"{ORDER}/creds/order-consumer-support"),
    "narrower": reads(f"{ORDER}/creds/*")
    + f'path "{ORDER}/creds/+" {{ capabilities = ["list"] }}\n',
    "template": 'path "skyflow/{{identity.entity.name}}/creds/*" { capabilities = ["read"] }',
    "sudo-only": f'path "{PATH}" {{ capabilities = ["sudo"] }}',
    "update-only": f'path "{PATH}" {{ capabilities = ["update"] }}',
}
APPROLES = {
    "a-exact": ["exact"],
    "a-plus": ["plus"],
    "a-prefix": ["prefix"],
    "a-denied": ["plus", "deny"],
    "a-other": ["other"],
    "a-narrower": ["narrower"],
    "a-narrower-plus": ["narrower", "prefix"],
    "a-none": [],
    "a-sudo": ["sudo-only"],
    "a-update": ["update-only"],
}


class Place:
    """A stack with logins of every kind of access."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.story = Story(http_of(stack))
        self.admin = admin = Admin(self.story.http, stack.exports["BAO_TOKEN"])
        for method in ("approle", "userpass"):
            admin.do("POST", f"sys/auth/{method}", {"type": method})
        for name, text in POLICIES.items():
            admin.policy(name, text)
        self.apps = [admin.approle(name, names) for name, names in APPROLES.items()]
        self.apps += [
            admin.user("u-member", PASSWORD, []),
            admin.user("u-denied", PASSWORD, ["exact"]),
        ]
        self.apps.append(admin.user("u-none", PASSWORD, ["other"]))
        self._group("readers", "u-member", ["exact"])
        self._group("blocked", "u-denied", ["deny"])

    def _group(self, name: str, user: str, names: list[str]) -> None:
        """Put a user who has logged in into a group."""
        listed = self.admin.do("GET", "identity/entity/id?list=true")["data"]["key_info"]
        member = next(
            key for key, one in listed.items() if any(a["name"] == user for a in one["aliases"])
        )
        body = {"name": name, "policies": names, "member_entity_ids": [member]}
        self.admin.do("POST", "identity/group", body)

    def named(self) -> dict[str, str]:
        data = self.stack.json("audit", "who-can", "order", ROLE)["data"]
        assert data["complete"], data["not_read"]
        return {one["name"].rpartition("/")[2]: one["decision"] for one in data["readers"]}

    def reads(self, app: App) -> bool:
        method = "POST" if app.name == "a-update" else "GET"
        body = {"ctx": "order:1"} if method == "POST" else None
        status, _ = self.story.http.send(
            app.token, method, f"{PATH}{'' if body else '?ctx=order:1'}", body
        )
        assert status in {200, 403}
        return status == 200


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with running_stack(apply=True) as stack:
        yield Place(stack)


def test_each_login_that_is_named_reads_and_each_other_is_denied(place: Place):
    named = place.named()
    decided = {app.name: named.get(app.name) == "yes" for app in place.apps}
    assert decided == {app.name: place.reads(app) for app in place.apps}
    assert decided["u-member"]
    assert not decided["u-denied"]
    assert not decided["a-denied"]
    assert "maybe" not in named.values()


def test_a_template_cannot_be_decided(place: Place):
    place.admin.do("POST", "auth/approle/role/a-template", {"token_policies": ["template"]})
    assert place.named()["a-template"] == "maybe"
    place.admin.do("DELETE", "auth/approle/role/a-template")


@pytest.mark.parametrize(("template", "decision"), [("read", "yes"), ("list", "maybe")])
def test_a_template_beside_a_policy_that_allows_decides_only_what_it_could_take_away(
    place: Place, template: str, decision: str
):
    path = "skyflow/order/creds/{{identity.entity.name}}"
    place.admin.policy("beside", f'path "{path}" {{ capabilities = ["{template}"] }}')
    body = {"token_policies": ["plus", "beside"]}
    place.admin.do("POST", "auth/approle/role/a-beside", body)
    assert place.named()["a-beside"] == decision
    place.admin.do("DELETE", "auth/approle/role/a-beside")


def test_a_login_that_may_read_nothing_is_not_permitted(place: Place):
    app = place.apps[0]
    env = {"BAO_TOKEN": app.token}
    words = ("audit", "who-can", f"order/{ROLE}", "-o", "json")
    done = place.stack.cli(*words, exported=True, env=env, check=4)
    assert '"complete": false' in done.stdout or '"complete":false' in done.stdout
    assert "sys/policies" in done.stdout


def test_what_cannot_be_read_makes_the_answer_partial(place: Place):
    place.stack.api("PUT", "sys/policies/acl/lists", {"policy": 'path "sys/auth" {\n'
        '  capabilities = ["read"]\n}\npath "auth/userpass/users*" {\n'
        '  capabilities = ["read", "list"]\n}'})  # fmt: skip
    made = place.stack.api("POST", "auth/token/create", {"policies": ["lists"], "ttl": "10m"})
    env = {"BAO_TOKEN": made["auth"]["client_token"]}
    words = ("audit", "who-can", f"order/{ROLE}", "-o", "json")
    done = place.stack.cli(*words, exported=True, env=env, check=3)
    assert '"status": "partial"' in done.stdout
    assert '"complete": false' in done.stdout


def test_a_mount_that_is_not_there_is_a_usage_error(place: Place):
    done = place.stack.json("audit", "who-can", "skyflow/none", ROLE, check=64)
    assert [one["code"] for one in done["errors"]] == ["not-mounted"]
    place.stack.json("audit", "who-can", "order", "../x", check=64)


def test_a_token_of_a_role_that_was_narrowed_is_named_although_another_role_has_its_policies(
    place: Place,
):
    def kept() -> list[str]:
        data = place.stack.json("audit", "who-can", "order", ROLE)["data"]
        return [
            one["name"]
            for one in data["readers"]
            if one["kind"] == "live token" and one["policies"] == ["exact"]
        ]

    before = kept()
    assert not [name for name in before if name.startswith("approle")]
    place.admin.do("POST", "auth/approle/role/a-twin", {"token_policies": ["exact"]})
    place.admin.do("POST", "auth/approle/role/a-exact", {"token_policies": ["other"]})
    try:
        assert place.reads(place.apps[0])
        assert [name for name in kept() if name not in before] == ["approle"]
    finally:
        place.admin.do("POST", "auth/approle/role/a-exact", {"token_policies": ["exact"]})
        place.admin.do("DELETE", "auth/approle/role/a-twin")
