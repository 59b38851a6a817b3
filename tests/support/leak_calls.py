"""Every command in every way it is called while its outputs are searched for secrets.

Good calls and failing ones: an error is where a secret leaks most easily. ``dev`` calls
run against a dev stack, ``own`` ones against a server of their own to which the
manifest's real credential is sent, and ``last`` ones end a dev stack of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from skyflowctl.version import semver

WRONG_CTX = "ctx-SECRET-wrong-7731"


@dataclass(frozen=True)
class Call:
    """One call; ``shown`` is what its standard output may hold: nothing, a token, …"""

    words: tuple[str, ...]
    good: bool = True
    where: str = "dev"
    shown: str = ""

    @property
    def name(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def dev(*words: str) -> Call:
    return Call(words)


def own(*words: str) -> Call:
    return Call((*words, "-f", "own/mounts.yaml"), where="own")


def bare(*words: str) -> Call:
    """Against the own server, for commands that read no manifest."""
    return Call(words, where="own")


def consumer(verb: str, *words: str) -> Call:
    """With a manifest of its own, whose consumer was applied to the dev stack."""
    named = () if verb == "list" else ("leak-app",)
    return Call(("consumer", verb, *named, *words, "-f", "own/consumers.yaml"))


def last(*words: str, shown: str = "") -> Call:
    return Call(words, where="last", shown=shown)


def token(call: Call) -> Call:
    """A call whose job it is to print a token."""
    return Call(call.words, call.good, call.where, "token")


def bad(call: Call) -> Call:
    """A call that must fail, by a decision of skyflowctl and not by a fault."""
    return Call(call.words, good=False, where=call.where)


_ORDER = ("creds", "order", "order-producer", "--ctx", "order:1")
_OWN = ("creds", "ledger", "reader")
_WRONG = ("--token-file", "own/wrong-token", "-v", "-v")
_EXEC = ("-f", "own/exec.yaml", "--allow-exec=/bin/cat", "--allow-host", "{host}")
_TELLS = ("-f", "own/tells.yaml", "--allow-exec=/bin/sh", "--allow-host", "{host}")
_VAULT = ("-f", "own/vault.yaml", "--allow-ref=leak-kv/*", "--allow-host", "{host}")
_DIRECT = ("--direct", "--allow-host", "{host}")

# A new command without a row fails the test.
CALLS: dict[str, list[Call]] = {
    "init": [dev("init", "-f", "new.yaml"), bad(dev("init", "-f", "own/mounts.yaml"))],
    "validate": [
        own("validate", "--allow-host", "{host}", "-v", "-v"),
        bad(own("validate", "-v", "-v")),
        bad(dev("validate", "-f", "own/bad.yaml")),
        bad(dev("validate", "-f", "own/broken.yaml", "-v", "-v", "--allow-host", "{host}")),
        bad(dev("validate", "-f", "own/broken.yaml", "-o", "json")),
        bad(dev("validate", "-f", "own/broken.yaml", "-o", "markdown")),
        bad(dev("validate", "-f", "own/broken.yaml", "-o", "sarif")),
        bad(dev("validate", "-f", "own/ledger.json")),
    ],
    "schema": [dev("schema"), bad(dev("schema", "--nope"))],
    "apply": [
        dev("apply", "-y", "-v", "-v"),
        last("apply", "-y", "-v", "-v"),
        dev("apply", "--dry-run", "-o", "json"),
        dev("apply", "--dry-run", "-f", "own/mounts.yaml", "-v", "-v"),
        bare("apply", "--dry-run", *_VAULT, "-v", "-v"),
        bad(own("apply", "--no-input", "--allow-host", "{host}")),
        own("apply", "-y", "--allow-host", "{host}", "-v", "-v"),
        own("apply", "-y", "--allow-host", "{host}", "-o", "json"),
        bad(bare("apply", "-y", "-f", "own/broken.yaml", "-v", "-v")),
        bad(dev("apply", "-y", "-f", "own/bad.yaml", "-v", "-v")),
        bad(dev("apply", "-y", *_WRONG)),
    ],
    "plan": [
        dev("plan"),
        dev("plan", "-o", "json"),
        own("plan", "--allow-host", "{host}", "-v", "-v"),
        own("plan", "--allow-host", "{host}", "--check-permissions", "-o", "json"),
        *(own("plan", "--allow-host", "{host}", "-o", form) for form in ("markdown", "sarif")),
        dev("plan", "--audit", "{log}", "-o", "markdown"),
        bad(dev("plan", "--audit", "nobody.log", "-v", "-v")),
        *(bare("plan", *_VAULT, "-o", form) for form in ("markdown", "sarif")),
        *(bad(dev("plan", "-o", form, "-f", "own/bad.yaml")) for form in ("markdown", "sarif")),
        bad(bare("plan", "-f", "own/broken.yaml", "-o", "json")),
        *(bare("plan", *way, "-v", "-v") for way in (_EXEC, _VAULT)),
        *(bare("plan", *way, "-o", "json") for way in (_EXEC, _VAULT)),
        bad(bare("plan", *_TELLS, "-v", "-v")),
        bad(bare("plan", *_TELLS, "-o", "json")),
        bad(dev("plan", "-v", "-v", "-f", "own/bad.yaml")),
        bad(dev("plan", "-o", "json", "-f", "own/bad.yaml")),
        bad(dev("plan", *_WRONG)),
    ],
    "export": [
        dev("export", "-v", "-v"),
        dev("export", "-o", "json"),
        bare("export", "-o", "json", "-v", "-v"),
        bad(dev("export", "--out", "own/mounts.yaml", "-v", "-v")),
        bad(dev("export", *_WRONG)),
    ],
    "rotate": [
        dev("rotate", "purchase", "--generate", "-y", "-v", "-v"),
        dev("rotate", "purchase", "--generate", "--dry-run", "-o", "json"),
        dev("rotate", "--rollback", "purchase", "-o", "json"),
        dev("rotate", "--due"),
        bad(dev("rotate", "order", "--credentials", "own/broken.json", "-y", "-v", "-v")),
        bad(dev("rotate", "order", "--credentials", "own/ledger.json", "-y", "-o", "json")),
        bad(dev("rotate", "order", "--operator-token", "own-token-text", "--generate", "-y")),
        bad(dev("rotate", "order", "-y", *_WRONG)),
        bad(bare("rotate", "ledger", "--credentials", "own/ledger.json", "-y", "-v", "-v")),
        bad(
            bare(
                *("rotate", "ledger", "--generate", "--account-id", "a", "-y", "-v", "-v"),
                *("--operator-token", "file:own/wrong-token", "--management-host", "{host}"),
            )
        ),
    ],
    "status": [dev("status"), dev("status", "-o", "json"), bad(dev("status", *_WRONG))],
    "health": [dev("health"), dev("health", "-o", "json"), bad(dev("health", *_WRONG))],
    "audit posture": [
        dev("audit", "posture", "-v", "-v"),
        dev("audit", "posture", "-o", "json", "--profile", "pci", "--evidence", "posture"),
        dev("audit", "posture", "-o", "sarif"),
        bad(dev("audit", "posture", "--fail-on", "info", "-o", "json")),
        bad(dev("audit", "posture", *_WRONG)),
    ],
    "audit report": [
        dev("audit", "report", "--html", "report.html", "--csv", "tables", "-v", "-v"),
        dev("audit", "report", "-o", "json", "--evidence", "evidence", "--server-roles"),
        dev("audit", "report", "-o", "csv", "-f", "own/mounts.yaml"),
        bad(dev("audit", "report", "--server-roles", *_WRONG)),
        bad(dev("audit", "report", "nobody.log", "-o", "json")),
        bad(dev("audit", "report", "-f", "own/bad.yaml", "-v", "-v")),
    ],
    "creds": [
        *(token(dev(*_ORDER, "-v", "-v", "-o", form)) for form in ("raw", "json", "env", "table")),
        *(token(own(*_OWN, "-v", "-v", "-o", form)) for form in ("raw", "json", "env", "table")),
        token(dev(*_ORDER, "--wrap-ttl", "60s", "-v", "-v")),
        token(dev(*_ORDER, "--wrap-ttl", "60s", "-o", "json")),
        token(dev(*_ORDER, "--dry-run", "-v", "-v")),
        token(own(*_OWN, "--dry-run", "--allow-host", "{host}", "-o", "json")),
        token(own(*_OWN, *_DIRECT, "-v", "-v")),
        token(own(*_OWN, *_DIRECT, "-o", "json")),
        bad(own(*_OWN, "--direct", "-v", "-v")),
        bad(own(*_OWN, "--direct", "-o", "json")),
        bad(dev(*_ORDER, "--direct", "-v", "-v")),
        bad(dev("creds", "order", "order-producer", "--ctx", WRONG_CTX, "-v", "-v")),
        bad(dev("creds", "order", "order-producer", "--ctx", WRONG_CTX, "-o", "json")),
        bad(dev("creds", "order", "nobody")),
        bad(dev(*_ORDER, *_WRONG)),
    ],
    "sign": [
        dev("sign", *_ORDER[1:], "tok-1", "-v", "-v"),
        dev("sign", *_ORDER[1:], "tok-1", "-o", "json"),
        bad(dev("sign", "order", "order-producer", "--ctx", WRONG_CTX, "tok-1", "-v", "-v")),
        bad(dev("sign", *_ORDER[1:], "tok-1", *_WRONG)),
    ],
    "exec": [
        token(dev("exec", *_ORDER[1:], "-v", "-v", "--", "printenv", "SKYFLOW_BEARER_TOKEN")),
        dev("exec", *_ORDER[1:], "--watch", "-v", "-v", "--", "true"),
        dev("exec", *_ORDER[1:], "--serve", "unix:run/leak", "-v", "-v", "--", "true"),
        bad(dev("exec", "order", "order-producer", "--ctx", WRONG_CTX, "-v", "-v", "--", "true")),
        bad(dev("exec", *_ORDER[1:], *_WRONG, "-o", "json", "--", "true")),
    ],
    "token-file": [
        dev("token-file", *_ORDER[1:], "--path", "kept", "--once", "-v", "-v"),
        dev("token-file", *_ORDER[1:], "--path", "kept", "--once", "-o", "json"),
        bad(dev("token-file", *_ORDER[1:], "--path", "none/at/all", "--once", "-v", "-v")),
        bad(dev("token-file", *_ORDER[1:], "--path", "kept", "--once", *_WRONG)),
    ],
    "doctor": [
        dev("doctor", "-v", "-v"),
        dev("doctor", "-o", "json"),
        dev("doctor", "--idempotence", "-y", "-v", "-v"),
        own("doctor", "-o", "json", "--allow-host", "{host}"),
        bad(dev("doctor", *_WRONG)),
    ],
    "metrics": [
        dev("metrics", "-v", "-v"),
        dev("metrics", "--drift", "-o", "json"),
        dev("metrics", "--textfile", "leak.prom"),
        bad(dev("metrics", *_WRONG)),
    ],
    "mount list": [
        dev("mount", "list"),
        bare("mount", "list", "-o", "json"),
        bad(dev("mount", "list", *_WRONG)),
    ],
    "mount show": [
        dev("mount", "show", "order", "-o", "json"),
        bare("mount", "show", "ledger"),
        bad(dev("mount", "show", "nobody")),
    ],
    "mount enable": [
        dev("mount", "enable", "order"),
        own("mount", "enable", "ledger", "-o", "json"),
        bad(dev("mount", "enable", "nobody")),
    ],
    "mount disable": [
        bad(dev("mount", "disable", "order")),
        dev("mount", "disable", "nobody"),
        bad(bare("mount", "disable", "ledger", "-o", "json")),
    ],
    "config show": [
        dev("config", "show", "order"),
        bare("config", "show", "ledger", "-o", "json"),
        bad(dev("config", "show", "nobody")),
    ],
    "config history": [
        dev("config", "history", "order", "-v", "-v"),
        bare("config", "history", "ledger", "-o", "json"),
        bad(dev("config", "history", "nobody")),
        bad(dev("config", "history", "order", *_WRONG)),
    ],
    "config write": [
        dev("config", "write", "order", "--description", "Orders", "-v", "-v"),
        bare("config", "write", "ledger", "--tag", "env:test", "-o", "json"),
        bad(dev("config", "write", "order", "--credentials", "own/ledger.json", "-v", "-v")),
        bad(bare("config", "write", "ledger", "--credentials", "own/ledger.json", "-o", "json")),
        bad(dev("config", "write", "order", "--clear-tags", *_WRONG)),
    ],
    "config rollback": [
        dev("config", "rollback", "purchase", "-v", "-v"),
        bad(dev("config", "rollback", "order", "--to", "99", "-v", "-v")),
        bad(bare("config", "rollback", "ledger", "-o", "json")),
        bad(dev("config", "rollback", "order", *_WRONG)),
    ],
    "config revoke": [
        dev("config", "revoke", "purchase", "--reason", "leak test", "-y", "-v", "-v"),
        dev("config", "revoke", "purchase", "--reason", "x", "-y", "--delete-keys", "-o", "json"),
        bad(bare("config", "revoke", "ledger", "--reason", "x", "-o", "json")),
        bad(dev("config", "revoke", "order", "--reason", "x", "-y", *_WRONG)),
    ],
    "config verify": [
        dev("config", "verify", "order"),
        bare("config", "verify", "ledger", "-o", "json"),
        bad(dev("config", "verify", "nobody")),
    ],
    "context list": [
        dev("context", "list"),
        dev("context", "list", "-o", "json"),
        bad(dev("context", "list", "--frob")),
    ],
    "context add": [
        dev("context", "add", "prod", "--address", "https://bao.example.com:8200"),
        dev(
            "context",
            "add",
            "ci",
            "--address",
            "https://ci.example.com",
            "--method",
            "jwt",
            "--secret",
            "env:CI_JWT",
            "-o",
            "json",
        ),
        bad(dev("context", "add", "prod", "--address", "https://other.example.com")),
    ],
    "context use": [
        dev("context", "use", "prod"),
        bad(dev("context", "use", "nobody", "-o", "json")),
    ],
    "login": [
        dev("context", "add", "here", "--address", "{address}", "--ca-cert", "{ca}"),
        dev("login", "--context", "here", "--method", "token", "--secret", "file:{operator}"),
        dev("login", "--context", "here", "--status", "-o", "json"),
        dev("context", "list", "-o", "json"),
        bad(dev("login")),
        bad(
            dev(
                "login",
                "--context",
                "here",
                "--method",
                "jwt",
                "--role",
                "x",
                "--secret",
                "file:own/ledger.json",
            )
        ),
        bad(
            dev(
                "login",
                "--context",
                "here",
                "--method",
                "token",
                "--secret",
                "file:own/wrong-token",
                "-o",
                "json",
            )
        ),
    ],
    "logout": [
        dev("logout", "--context", "here"),
        bad(dev("logout", "-o", "json")),
    ],
    "context remove": [
        dev("context", "remove", "ci"),
        dev("context", "remove", "prod", "-y", "-o", "json"),
        bad(dev("context", "remove", "prod", "--frob")),
    ],
    "role list": [
        dev("role", "list", "order"),
        bare("role", "list", "ledger", "-o", "json"),
        bad(dev("role", "list", "nobody")),
    ],
    "role show": [
        dev("role", "show", "order", "order-producer", "-o", "json"),
        bare("role", "show", "ledger", "reader"),
        bad(dev("role", "show", "order", "nobody")),
    ],
    "role write": [
        dev("role", "write", "order", "leak", "--role-id", "r-leak", "-y", "-v", "-v"),
        bare("role", "write", "ledger", "reader", "--tag", "a", "--dry-run", "-o", "json"),
        bad(dev("role", "write", "order", "leak", "--ctx-probe", "{{own", "-y", "-v", "-v")),
        bad(bare("role", "write", "ledger", "reader", "--description", "x", "-o", "json")),
    ],
    "role delete": [
        dev("role", "delete", "order", "nobody", "-y"),
        bad(bare("role", "delete", "ledger", "reader", "-o", "json")),
        bad(dev("role", "delete", "nobody", "reader", "-y")),
    ],
    "consumer issue": [
        token(consumer("issue", "-v", "-v")),
        token(consumer("issue", "--num-uses", "3", "-o", "json")),
        bad(consumer("issue", "--cidr", "here", "-v", "-v")),
        bad(consumer("issue", *_WRONG)),
    ],
    "consumer list": [consumer("list", "-v", "-v"), bad(consumer("list", *_WRONG))],
    "consumer check": [
        consumer("check", "-v", "-v"),
        consumer("check", "-o", "json"),
        bad(consumer("check", *_WRONG)),
    ],
    "consumer manifest": [
        consumer("manifest", "--for", "agent", "-v", "-v"),
        consumer("manifest", "--for", "eso", "-o", "json"),
        bad(consumer("manifest", "--for", "csi")),
    ],
    "consumer rotate": [
        token(consumer("rotate", "-v", "-v")),
        token(consumer("rotate", "-o", "json")),
        bad(consumer("rotate", "--retire", "-y", "-v", "-v")),
    ],
    "consumer revoke": [
        bad(consumer("revoke", "--all", "-o", "json")),
        consumer("revoke", "--all", "-y", "-v", "-v"),
    ],
    "approvals list": [
        dev("approvals", "list", "--pending", "own/none.json", "-v", "-v"),
        bare("approvals", "list", "-o", "json"),
        bad(dev("approvals", "list", "extra")),
    ],
    "approvals show": [
        bad(dev("approvals", "show", "nobody", "-v", "-v")),
        bad(bare("approvals", "show", "nobody", "-o", "json")),
        bad(dev("approvals", "show", "nobody", *_WRONG)),
    ],
    "approvals approve": [
        bad(dev("approvals", "approve", "nobody", "-y", "-v", "-v")),
        bad(bare("approvals", "approve", "nobody", "-y", "-o", "json")),
        bad(dev("approvals", "approve", "nobody", "-y", *_WRONG)),
    ],
    "audit who": [
        dev("audit", "who", "--ctx", "order:1", "-v", "-v"),
        dev("audit", "who", "-o", "json"),
        dev("audit", "who", "-o", "ndjson", "--ctx", "order:*"),
        dev("audit", "who", "-o", "csv", "--mount", "order"),
        dev("audit", "who", "--ctx", "order:1", *_WRONG),
        bad(dev("audit", "who", "--token", "a-token-on-argv", "-v", "-v")),
        bad(dev("audit", "who", "--outcome", "nonsense", "-o", "json")),
        bad(dev("audit", "who", "nobody.log")),
    ],
    "audit incident": [
        dev("audit", "incident", "--ctx", "order:1", "-v", "-v", "--evidence", "incident"),
        dev("audit", "incident", "--ctx", "order:1", "-o", "json"),
        bad(dev("audit", "incident", "--app", "a", "--ctx", "b", "-o", "json")),
        bad(dev("audit", "incident", "nobody.log", "--key-id", "k")),
    ],
    "audit who-can": [
        dev("audit", "who-can", "order", "order-producer", "-v", "-v"),
        dev("audit", "who-can", "order/order-producer", "-o", "json"),
        bad(dev("audit", "who-can", "order", "order-producer", *_WRONG)),
        bad(dev("audit", "who-can", "order")),
    ],
    "audit tail": [
        dev("audit", "tail", "-v", "-v"),
        dev("audit", "tail", "-n", "5000", "-o", "json"),
        dev("audit", "tail", "-n", "5000", "-o", "ocsf"),
        bad(dev("audit", "tail", "nobody.log")),
    ],
    "audit denied": [
        dev("audit", "denied", "-v", "-v"),
        dev("audit", "denied", "-o", "json"),
        bad(dev("audit", "denied", "-f", "own/bad.yaml", "-v", "-v")),
    ],
    "audit unused": [
        dev("audit", "unused", "--days", "1m", "-v", "-v"),
        dev("audit", "unused", "-o", "json"),
        bad(dev("audit", "unused", *_WRONG)),
    ],
    "plugin build": [
        dev("plugin", "build", "{plugins}", "--name", "other", "-v", "-v"),
        dev("plugin", "build", "{plugins}", "--name", "other", "-o", "json"),
        bad(dev("plugin", "build", "own/mounts.yaml")),
    ],
    "plugin register": [
        dev("plugin", "register", "{launcher}", "--name", "other", "-v", "-v"),
        bad(dev("plugin", "register", "{plugins}/nobody", "-v", "-v")),
        bad(dev("plugin", "register", "{launcher}", "--name", "other", *_WRONG)),
    ],
    "plugin list": [
        dev("plugin", "list", "-o", "json"),
        bare("plugin", "list"),
        bad(dev("plugin", "list", *_WRONG)),
    ],
    "plugin upgrade": [
        dev("plugin", "upgrade", "-y", "-v", "-v"),
        dev("plugin", "upgrade", "--dry-run", "-o", "json"),
        bad(dev("plugin", "upgrade", "--to", "v9.9.9", "-v", "-v")),
        bad(dev("plugin", "upgrade", *_WRONG)),
    ],
    "plugin rollback": [
        dev("plugin", "rollback", "--to", semver(), "-y", "-v", "-v"),
        bad(dev("plugin", "rollback", "-y", "-v", "-v")),
        bad(dev("plugin", "rollback", *_WRONG)),
    ],
    "plugin prune": [
        dev("plugin", "prune", "{plugins}", "-y", "-v", "-v"),
        bad(dev("plugin", "prune", "{plugins}", *_WRONG)),
        bad(dev("plugin", "prune", "own/mounts.yaml")),
    ],
    "dev up": [
        dev("dev", "up"),
        dev("dev", "up", "-v", "-v", "-o", "json"),
        bad(dev("dev", "up", "-f", "own/bad.yaml", "-v", "-v")),
    ],
    "dev env": [
        last("dev", "env", "-v", "-v", shown="operator"),
        last("dev", "env", "-o", "json", shown="operator"),
        bad(dev("dev", "env", "--nope")),
    ],
    "dev logs": [
        dev("dev", "logs", "openbao", "-n", "5000"),
        dev("dev", "logs", "emulator", "-n", "5000"),
        dev("dev", "logs", "audit", "-n", "5000"),
        bad(dev("dev", "logs", "nobody")),
    ],
    "dev down": [
        last("dev", "down", "-v", "-v"),
        last("dev", "down", "-o", "json"),
        bad(last("dev", "down", "--nope")),
        bad(last("plan", "-v", "-v")),
        bad(last("health", "-v", "-v")),
    ],
    "dev status": [
        dev("dev", "status"),
        dev("dev", "status", "-o", "json"),
        bad(last("dev", "status", "-v", "-v")),
    ],
    "dev reset": [bad(last("dev", "reset", "--no-input")), last("dev", "reset", "-y", "-v", "-v")],
    "completion": [dev("completion", "bash"), bad(dev("completion", "nobody"))],
    "help": [dev("help", "exit-codes"), bad(dev("help", "nobody"))],
    "version": [dev("version"), bad(dev("version", "--nope"))],
}


def calls(*places: str) -> list[Call]:
    """The calls of these places, in the order of the table."""
    return [call for listed in CALLS.values() for call in listed if call.where in places]
