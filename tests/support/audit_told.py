"""A dev stack that was used by three applications, an operator and a rotation."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.audit_story import (
    ORDER,
    PAYMENT,
    PURCHASE,
    Admin,
    App,
    Asked,
    Story,
    http_of,
    now,
    reads,
)
from support.stack import BIN, Stack

CTX = "order:ORD-42"
OBJECT = {"purpose": "settlement", "batch": 118}
OPERATOR = "token-dev-operator"
HOSTILE = "<script>alert(1)</script>"
AGED = timedelta(days=100)


@dataclass
class Told:
    """A stack, what was done on it, and copies of its log."""

    stack: Stack
    story: Story
    order_app: App
    bob: App
    tool: App
    log: Path
    halfway: str = ""
    halfway_at: int = 0
    creds_run: str = ""
    rotate_run: str = ""
    old_key: str = ""
    new_key: str = ""

    def who(self, *args: str, server: bool = False, **extra: Any) -> list[dict[str, Any]]:
        """The rows that ``audit who`` answers, as a process."""
        told = ("audit", "who", str(self.log), *args)
        return self.envelope(*told, server=server, **extra)["data"]["requests"]

    def envelope(self, *args: str, server: bool = False, stdin: str = "") -> dict[str, Any]:
        """What a command answers in JSON; ``server``: it is named to it."""
        return json.loads(self.run(*args, server=server, stdin=stdin).stdout)

    def run(
        self, *args: str, server: bool = False, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Ask as a person's script would, in JSON; it has to work."""
        environ = {**self.stack.environ, **(self.stack.exports if server else {})}
        done = subprocess.run(
            [str(BIN / "skyflowctl"), *args, "-o", "json"],
            env=environ,
            cwd=self.stack.folder,
            text=True,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


def use(stack: Stack) -> Told:
    """Have three applications and an operator use a stack; keep a copy of its log."""
    http = http_of(stack)
    admin = Admin(http, stack.exports["BAO_TOKEN"])
    order_app, bob, tool = log_in(admin)
    told = Told(stack, Story(http), order_app, bob, tool, stack.folder / "kept" / "audit.log")
    hashed_part(told)
    told.halfway, told.halfway_at = now(), len(told.story.asked)
    rotate(told)
    plain_part(told)
    told.log.parent.mkdir()
    shutil.copy(stack.audit_log, told.log)
    add_an_aged_log(told.log)
    return told


def log_in(admin: Admin) -> tuple[App, App, App]:
    for method in ("approle", "userpass"):
        admin.do("POST", f"sys/auth/{method}", {"type": method})
    admin.policy("order-service", reads(f"{ORDER}/creds/order-producer"))
    admin.policy(
        "support",
        reads(
            f"{ORDER}/creds/order-consumer-support",
            f"{ORDER}/creds/order-consumer-analytics",
        ),
    )
    admin.policy("payments", reads(f"{PAYMENT}/creds/+"))
    admin.policy("idle", reads(f"{PURCHASE}/creds/purchase-consumer-portal"))
    admin.do("POST", "auth/approle/role/sleeper", {"token_policies": ["idle"]})
    return (
        admin.approle("order-service", ["order-service"]),
        admin.user("bob", secrets.token_hex(12), ["support"]),
        admin.plain_token("nightly", ["payments"], role_name="order-service", username="bob"),
    )


def hashed_part(told: Told) -> None:
    """Requests while the mounts hash every ctx."""
    ask = told.story.ask
    ask(told.order_app, ORDER, "order-producer", CTX, claimed="checkout")
    ask(told.order_app, ORDER, "order-producer", "order:ORD-43")
    ask(told.bob, ORDER, "order-consumer-support", "ticket:CASE-1", claimed=HOSTILE)
    ask(told.bob, ORDER, "order-consumer-analytics")
    ask(told.tool, PAYMENT, "payment-risk-engine", "txn:PAY-1")
    ask(told.tool, PAYMENT, "payment-consumer-settlement", OBJECT)
    ask(told.bob, ORDER, "order-producer", CTX)
    ask(told.order_app, ORDER, "order-producer", "cart:CART-7")
    wrapped = ask(told.order_app, ORDER, "order-producer", CTX, wrap=True)
    told.story.unwrap(told.bob, wrapped)
    ask(told.order_app, PURCHASE, "purchase-producer", "cart:CART-7")


def rotate(told: Told) -> None:
    """A token through skyflowctl, a rotation, and one of the new key."""
    told.old_key = told.story.asked[4].key_id or ""
    creds = told.stack.json("creds", "payment", "payment-producer", "--ctx", "txn:PAY-2")
    told.creds_run = creds["run_id"]
    data = creds["data"]
    operator = Asked(OPERATOR, "token", PAYMENT, "payment-producer", "txn:PAY-2", "granted")
    operator.request_id, operator.key_id = data["request_id"], data["key_id"]
    operator.claimed = "skyflowctl"
    operator.run_id, operator.bearer = told.creds_run, data["access_token"]
    told.story.asked.append(operator)
    rotated = told.stack.json("rotate", "payment", "--generate", "-y")
    told.rotate_run = rotated["run_id"]
    told.new_key = rotated["data"]["mounts"][0]["to"]
    after = told.story.ask(told.tool, PAYMENT, "payment-risk-engine", "txn:PAY-3")
    assert after.key_id == told.new_key != told.old_key


def plain_part(told: Told) -> None:
    """The same manifest with readable ctx, and requests after that."""
    manifest = told.stack.folder / "mounts.yaml"
    manifest.write_text(manifest.read_text().replace("plain_ctx: false", "plain_ctx: true"))
    told.stack.cli("apply", "-y", exported=True)
    told.story.ask(told.order_app, ORDER, "order-producer", CTX)
    told.story.ask(told.order_app, ORDER, "order-producer", "order:ORD-77", claimed="=1+1")
    told.story.ask(told.tool, PAYMENT, "payment-consumer-settlement", OBJECT)
    told.story.ask(told.order_app, ORDER, "order-producer", "cart:CART-9")


def add_an_aged_log(log: Path) -> None:
    """A rotated log that begins long ago, with one entry that asks for nothing."""
    with log.open() as lines:
        entry = json.loads(next(lines))
    entry["time"] = (datetime.now(UTC) - AGED).isoformat().replace("+00:00", "Z")
    (log.parent / "audit.log.1").write_text(json.dumps(entry) + "\n")


PLAIN = 4
"""So many of the last requests have their ctx in plain in the log."""
