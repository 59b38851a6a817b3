"""Checks the running plugin: its digest on every node, and nodes where it is missing."""

from collections.abc import Iterator, Mapping, Sequence

from skyflowctl.posture.facts import Facts, MountFacts, NodeFacts, NotRead
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.text import unchecked
from skyflowctl.text import counted, listed
from skyflowctl.vault.catalog import REGISTER_WANTED, RunningState, compare
from skyflowctl.vault.responses import CatalogEntry


def digests(facts: Facts) -> Iterator[Finding]:
    """Every mount runs exactly the file that is registered in the catalog, on every node."""
    if isinstance(facts.catalog, NotRead):
        yield unchecked("engine-digest", facts.catalog, core=True)
    else:
        for entry in facts.catalog_unread:
            yield unchecked("engine-digest", entry)
        missing = {entry.version for entry in facts.catalog if entry.file_missing}
        for one in facts.ours:
            yield from _against_catalog(one, facts.catalog)
            if one.mount.running_plugin_version in missing:
                yield _without_file(one)
    if isinstance(facts.nodes, NotRead):
        yield unchecked("engine-digest", facts.nodes)
        return
    for node in facts.nodes:
        yield from _node(node, facts)


def _against_catalog(one: MountFacts, catalog: Sequence[CatalogEntry]) -> Iterator[Finding]:
    running = compare(one.mount, catalog)
    registered = {entry.version: entry.sha256 for entry in catalog}
    if running.state is RunningState.NOT_REGISTERED:
        why = "it cannot start again: at the next restart the mount issues no token"
        evidence = f"registered versions: {listed(sorted(registered)) or 'none'}"
    elif running.state is RunningState.DIFFERS:
        why = "an unregistered file mints its tokens, and the next restart runs the registered one"
        evidence = f"registered {registered[running.version]}"
    else:
        return
    yield Finding(
        "engine-digest",
        Severity.CRITICAL,
        FindingSubject("mount", one.path),
        running.fault,
        why,
        (f"running    {running.sha256}", evidence),
        REGISTER_WANTED,
    )


def _without_file(one: MountFacts) -> Finding:
    version = one.mount.running_plugin_version
    return Finding(
        "engine-digest",
        Severity.CRITICAL,
        FindingSubject("mount", one.path),
        f"{one.path} runs {one.mount.type} {version}, whose registered file is missing",
        "it cannot start again: at the next restart the mount issues no token",
        (),
        "'skyflowctl plugin list' shows the file and the fix",
    )


def _node(node: NodeFacts, facts: Facts) -> Iterator[Finding]:
    subject = FindingSubject("node", node.name)
    if not node.asked:
        why = "a node without the plugin looks healthy, but issues no token once it leads"
        yield _not_named("engine-digest", node, why)
    elif node.problem:
        yield unchecked("engine-digest", NotRead(node.name, why=node.problem), subject)
    for missing in node.not_read:
        yield unchecked("engine-digest", missing, subject)
    if node.missing:
        yield Finding(
            "engine-digest",
            Severity.CRITICAL,
            subject,
            f"the plugin of {counted(len(node.missing), 'mount')} does not run on {node.name}",
            "the node looks healthy but answers 404; when it leads, those mounts are down",
            (listed(node.missing),),
            "on that node: skyflowctl plugin list --directory PLUGIN_DIRECTORY "
            f"--name {_plugin(facts)}",
        )
    for one in facts.ours:
        there = node.digests.get(one.path, "")
        if there and one.mount.running_sha256 and there != one.mount.running_sha256:
            yield Finding(
                "engine-digest",
                Severity.HIGH,
                subject,
                f"{node.name} runs another file for {one.path}",
                "tokens come from different programs, depending on the node that answers",
                (f"there {there}", f"at the named address {one.mount.running_sha256}"),
                f"bao plugin reload -mounts={one.path}/ -scope=global",
            )


def _not_named(check: str, node: NodeFacts, why: str) -> Finding:
    return Finding(
        check,
        Severity.LOW,
        FindingSubject("node", node.name),
        f"not checked: the node {node.name} was not named",
        why,
        fix=f"name it: --node {node.name}, or in SKYFLOWCTL_NODES",
        unchecked=True,
    )


def processes(facts: Facts) -> Iterator[Finding]:
    """No process of the engine can be dumped, debugged by its own user, or swapped out.

    Each node has its own processes. A state that a node does not return is not assumed to be safe.
    """
    for one in facts.ours:
        if one.config is not None:  # else the check ``mounts`` reports it
            yield from _process(one.path, one.config.process, FindingSubject("mount", one.path))
    for node in () if isinstance(facts.nodes, NotRead) else facts.nodes:
        if not node.asked or node.problem:
            yield _not_named("engine-process", node, "its processes hold the mounts' keys as well")
            continue
        for path, process in node.processes.items():
            where = f"{path} on {node.name}"
            yield from _process(where, process, FindingSubject("node", node.name))


def _process(
    where: str, process: Mapping[str, bool] | None, subject: FindingSubject
) -> Iterator[Finding]:
    """Yield each way in which a key can leak from a process, and each state that is unknown."""
    reported = process or {}
    for name, (grade, summary, why, fix) in _WAYS_OUT.items():
        if reported.get(name):
            yield Finding("engine-process", grade, subject, f"{summary}: {where}", why, fix=fix)
    if unknown := [name for name in _WAYS_OUT if name not in reported]:
        yield Finding(
            "engine-process",
            Severity.LOW,
            subject,
            f"not checked: the engine does not report how its process is protected: {where}",
            "whether a key can leave its memory is not known",
            (f"not reported: {listed(unknown)}",),
            "upgrade its engine to this release: docs/how-to/upgrade.md",
            unchecked=True,
        )


_WAYS_OUT = {
    "core_dumps": (
        Severity.MEDIUM,
        "the engine's process may write a core dump",
        "its memory holds the mount's key",
        "let the plugin set its own limits: no seccomp filter on setrlimit",
    ),
    "dumpable": (
        Severity.MEDIUM,
        "the engine's process can be read by other processes of its user",
        "its memory holds the mount's key",
        "let the plugin call prctl: no seccomp filter on it",
    ),
    "swappable": (
        Severity.LOW,
        "the engine's memory may be swapped to disk",
        "its memory holds the mount's key",
        "switch swap off on the servers, or give the server LimitMEMLOCK=infinity",
    ),
}


def _plugin(facts: Facts) -> str:
    return facts.ours[0].mount.type if facts.ours else "skyflow"


CHECKS = (
    Check(
        "engine-digest",
        "the engine on every node",
        "Every node runs the file that the catalog registers.",
        digests,
        of_mounts=True,
    ),
    Check(
        "engine-process",
        "the engine's process",
        "Its memory cannot be read through core dumps, debuggers or swap.",
        processes,
        of_mounts=True,
    ),
)
