"""All commands in one static table, which imports none of them.

A command's module is imported only when that command is called: importing all of them
would triple the start-up time. To add a command, add a row (see ``docs/contributing.md``).
The rows are named tuples, because help is printed before anything heavier is loaded.
"""

from collections import namedtuple
from collections.abc import Iterator

CommandRow = namedtuple("CommandRow", "name summary module attribute panel")  # noqa: PYI024 - typing costs 8 ms
CommandRow.__doc__ = """One command.

Args:
    name: the words after ``skyflowctl``, such as ``mount list``.
    summary: one line, in the imperative.
    module: below ``skyflowctl.cli.commands``.
    attribute: the decorated function in that module.
    panel: the heading under which the root help lists the command or its group.
"""

_MANIFEST = "Manifest to server"
_READ = "Mounts, tokens and audit"
_SERVER = "Server and machine"
_SELF = "About skyflowctl"

GROUPS = {
    "mount": "List, show, enable and disable the mounts of product lines",
    "config": "Show, verify, write, roll back and revoke a mount's credential",
    "role": "List, show, write and delete the roles of a mount",
    "consumer": "Issue, rotate, revoke and check the logins of applications",
    "approvals": "List, show and approve requests that wait for approvals",
    "audit": "Query the server's audit log, and check the setup",
    "plugin": "Build, register, list and upgrade the engine's plugin",
    "context": "Add, choose, list and remove servers by name",
    "dev": "Run OpenBao, the engine and an emulator on this machine",
}

COMMANDS = (
    CommandRow("init", "Write a first mounts.yaml", "init", "init", _MANIFEST),
    CommandRow(
        "validate", "Check the manifest without a server", "validate", "validate", _MANIFEST
    ),
    CommandRow("schema", "Print the manifest's JSON Schema", "schema", "schema", _MANIFEST),
    CommandRow("plan", "Show what apply would change", "plan", "plan", _MANIFEST),
    CommandRow(
        "apply", "Change the server to match the manifest", "apply.command", "apply", _MANIFEST
    ),
    CommandRow(
        "rotate",
        "Replace credentials without a failed request",
        "rotate.command",
        "rotate",
        _MANIFEST,
    ),
    CommandRow("export", "Write the manifest of what is live", "export", "export", _MANIFEST),
    CommandRow("status", "Show every mount: engine, health, roles, key", "status", "status", _READ),
    CommandRow("health", "Check whether every mount can mint", "health", "health", _READ),
    CommandRow("doctor", "Find out what is wrong, and the fix", "doctor", "doctor", _READ),
    CommandRow("metrics", "Print or serve metrics for Prometheus", "metrics", "metrics", _READ),
    CommandRow("creds", "Mint a bearer token for one role", "creds.command", "creds", _READ),
    CommandRow("exec", "Run a program with a token", "exec.command", "exec_command", _READ),
    CommandRow("token-file", "Keep a token fresh in a file", "token_file", "token_file", _READ),
    CommandRow("sign", "Sign data tokens for one role", "sign", "sign", _READ),
    CommandRow(
        "mount list", "List the mounts of the manifest or server", "mount", "mount_list", _READ
    ),
    CommandRow("mount show", "Show one mount on the server", "mount", "mount_show", _READ),
    CommandRow("mount enable", "Enable one mount of the manifest", "mount", "mount_enable", _READ),
    CommandRow("mount disable", "Delete one mount", "mount", "mount_disable", _READ),
    CommandRow(
        "config show",
        "Show a mount's config, without its key",
        "config.command",
        "config_show",
        _READ,
    ),
    CommandRow(
        "config history",
        "List the credential versions of a mount",
        "config.command",
        "config_history",
        _READ,
    ),
    CommandRow(
        "config write",
        "Change a mount's description or tags",
        "config.command",
        "config_write",
        _READ,
    ),
    CommandRow(
        "config rollback",
        "Roll back to an earlier credential",
        "rotate.command",
        "config_rollback",
        _READ,
    ),
    CommandRow(
        "config revoke", "Destroy a mount's credentials", "config.revoke", "config_revoke", _READ
    ),
    CommandRow(
        "config verify",
        "Mint once per role with the live key",
        "config.command",
        "config_verify",
        _READ,
    ),
    CommandRow("role list", "List the roles of a mount", "role", "role_list", _READ),
    CommandRow("role show", "Show one role of a mount", "role", "role_show", _READ),
    CommandRow("role write", "Create or change one role of a mount", "role", "role_write", _READ),
    CommandRow("role delete", "Delete one role of a mount", "role", "role_delete", _READ),
    CommandRow(
        "consumer issue",
        "Issue a wrapped secret id",
        "consumer.command",
        "consumer_issue",
        _READ,
    ),
    CommandRow(
        "consumer list",
        "List consumers and their secret ids",
        "consumer.command",
        "consumer_list",
        _READ,
    ),
    CommandRow(
        "consumer rotate",
        "Issue a new secret id, retire the old",
        "consumer.command",
        "consumer_rotate",
        _READ,
    ),
    CommandRow(
        "consumer revoke",
        "Destroy secret ids of a consumer",
        "consumer.command",
        "consumer_revoke",
        _READ,
    ),
    CommandRow(
        "consumer check",
        "Prove what a consumer may do",
        "consumer.check",
        "consumer_check",
        _READ,
    ),
    CommandRow(
        "consumer manifest",
        "Print a consumer's configuration",
        "consumer.snippet",
        "consumer_manifest",
        _READ,
    ),
    CommandRow(
        "approvals list",
        "List the requests that this machine stored",
        "approvals",
        "approvals_list",
        _READ,
    ),
    CommandRow(
        "approvals show",
        "Show who asks for what, and what it changes",
        "approvals",
        "approvals_show",
        _READ,
    ),
    CommandRow("approvals approve", "Approve a request", "approvals", "approvals_approve", _READ),
    CommandRow("audit who", "Show who requested which token", "audit.who", "who", _READ),
    CommandRow(
        "audit incident", "Show what a key, app or ctx got", "audit.incident", "incident", _READ
    ),
    CommandRow(
        "audit who-can", "Show who can read a role's creds", "audit.who_can", "who_can", _READ
    ),
    CommandRow("audit tail", "Show the newest requests", "audit.tail", "tail", _READ),
    CommandRow("audit denied", "Show who was denied, and why", "audit.denied", "denied", _READ),
    CommandRow("audit unused", "Show unused roles and policies", "audit.unused", "unused", _READ),
    CommandRow("audit report", "Report usage, changes, anomalies", "audit.report", "report", _READ),
    CommandRow(
        "audit posture", "Check the security of the setup", "audit.posture", "posture", _READ
    ),
    CommandRow(
        "plugin build", "Build the plugin's launcher", "plugin.command", "plugin_build", _SERVER
    ),
    CommandRow(
        "plugin register",
        "Register a launcher in the catalog",
        "plugin.command",
        "plugin_register",
        _SERVER,
    ),
    CommandRow(
        "plugin list",
        "List registered and running versions",
        "plugin.listing",
        "plugin_list",
        _SERVER,
    ),
    CommandRow(
        "plugin upgrade",
        "Make mounts run another version, one by one",
        "plugin.upgrade",
        "plugin_upgrade",
        _SERVER,
    ),
    CommandRow(
        "plugin rollback",
        "Make mounts run the version before",
        "plugin.upgrade",
        "plugin_rollback",
        _SERVER,
    ),
    CommandRow(
        "plugin prune",
        "Remove unused launchers",
        "plugin.command",
        "plugin_prune",
        _SERVER,
    ),
    CommandRow("login", "Log in to a context", "login", "login", _SERVER),
    CommandRow("logout", "End the login of a context", "login", "logout", _SERVER),
    CommandRow(
        "context list", "List the contexts and their logins", "context", "context_list", _SERVER
    ),
    CommandRow("context use", "Make a context the current one", "context", "context_use", _SERVER),
    CommandRow("context add", "Add a context, or change it", "context", "context_add", _SERVER),
    CommandRow("context remove", "Remove a context", "context", "context_remove", _SERVER),
    CommandRow("dev up", "Start the dev stack, or reuse it", "dev", "dev_up", _SERVER),
    CommandRow("dev down", "Stop the dev stack", "dev", "dev_down", _SERVER),
    CommandRow("dev status", "Show the processes of the dev stack", "dev", "dev_status", _SERVER),
    CommandRow("dev env", "Print exports for bao, hvac and the SDK", "dev", "dev_env", _SERVER),
    CommandRow("dev logs", "Show the logs of the dev stack", "dev", "dev_logs", _SERVER),
    CommandRow("dev reset", "Stop the stack and delete its files", "dev", "dev_reset", _SERVER),
    CommandRow(
        "completion", "Print a completion script for a shell", "completion", "completion", _SELF
    ),
    CommandRow("help", "Explain a command or a topic", "help", "help_command", _SELF),
    CommandRow("version", "Print the version", "version", "version", _SELF),
)


def find_command(name: str) -> CommandRow | None:
    """Return the row of the command with this full name, or None."""
    return next((row for row in COMMANDS if row.name == name), None)


def children(group: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (name, summary, panel) of the direct members of a group, in table order."""
    seen = set()
    for row in COMMANDS:
        first, _, rest = row.name.partition(" ")
        if group and first == group and rest:
            yield rest, row.summary, "Commands"
        elif not group and first not in seen:
            seen.add(first)
            yield first, GROUPS.get(first, row.summary), row.panel
