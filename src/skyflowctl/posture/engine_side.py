"""Checks of what runs: the plugin's digest on every node, and nodes where it is missing."""

from collections.abc import Iterator, Mapping

from skyflowctl.posture.facts import Facts, MountFacts, NodeFacts, NotRead
from skyflowctl.posture.model import Check, Finding, Grade, Subject
from skyflowctl.posture.words import unchecked
from skyflowctl.text import counted, listed


def digests(facts: Facts) -> Iterator[Finding]:
    """Every mount runs the very file that the catalog has registered, on every node."""
    if isinstance(facts.catalog, NotRead):
        yield unchecked("engine-digest", facts.catalog, core=True)
    else:
        registered = {entry.version: entry.sha256 for entry in facts.catalog}
        missing = {entry.version for entry in facts.catalog if entry.file_missing}
        for one in facts.ours:
            yield from _against_catalog(one, registered)
            if one.mount.running_plugin_version in missing:
                yield _without_file(one)
    if isinstance(facts.nodes, NotRead):
        yield unchecked("engine-digest", facts.nodes)
        return
    for node in facts.nodes:
        yield from _node(node, facts)


def _against_catalog(one: MountFacts, registered: Mapping[str, str]) -> Iterator[Finding]:
    running, version = one.mount.running_sha256, one.mount.running_plugin_version
    if not running:
        return
    name = one.mount.type
    subject = Subject("mount", one.path)
    if version not in registered:
        yield Finding(
            "engine-digest",
            Grade.CRITICAL,
            subject,
            f"{one.path} runs {name} {version}, which is not in the catalog",
            "it cannot start again: at the next restart the mount issues no token",
            (f"running {running}", f"registered versions: {listed(sorted(registered)) or 'none'}"),
            "skyflowctl plugin register FILE --reload, with that version's launcher",
        )
    elif registered[version] != running:
        yield Finding(
            "engine-digest",
            Grade.CRITICAL,
            subject,
            f"{one.path} runs another file than the one that is registered as {version}",
            "an unregistered file mints its tokens, and the next restart runs the registered one",
            (f"running    {running}", f"registered {registered[version]}"),
            f"find out who registered what, then bao plugin reload -mounts={one.path}/ "
            "-scope=global",
        )


def _without_file(one: MountFacts) -> Finding:
    version = one.mount.running_plugin_version
    return Finding(
        "engine-digest",
        Grade.CRITICAL,
        Subject("mount", one.path),
        f"{one.path} runs {one.mount.type} {version}, whose registered file is missing",
        "it cannot start again: at the next restart the mount issues no token",
        (),
        "'skyflowctl plugin list' names the file and what to do",
    )


def _node(node: NodeFacts, facts: Facts) -> Iterator[Finding]:
    subject = Subject("node", node.name)
    if not node.asked:
        yield Finding(
            "engine-digest",
            Grade.LOW,
            subject,
            f"not checked: the node {node.name} was not named",
            "a node without the plugin looks healthy, but issues no token once it leads",
            fix=f"name it: --node {node.name}, or in SKYFLOWCTL_NODES",
            unchecked=True,
        )
    elif node.problem:
        yield unchecked("engine-digest", NotRead(node.name, why=node.problem), subject)
    if node.missing:
        yield Finding(
            "engine-digest",
            Grade.CRITICAL,
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
                Grade.HIGH,
                subject,
                f"{node.name} runs another file for {one.path}",
                "tokens come from different programs, depending on the node that answers",
                (f"there {there}", f"at the named address {one.mount.running_sha256}"),
                f"bao plugin reload -mounts={one.path}/ -scope=global",
            )


def processes(facts: Facts) -> Iterator[Finding]:
    """No process of the engine can be dumped, debugged by its own user, or swapped out."""
    for one in facts.ours:
        process = one.config.process if one.config else None
        for name, (grade, summary, why, fix) in _WAYS_OUT.items():
            if process and process.get(name):
                subject = Subject("mount", one.path)
                yield Finding(
                    "engine-process", grade, subject, f"{summary}: {one.path}", why, fix=fix
                )


_WAYS_OUT = {
    "core_dumps": (
        Grade.MEDIUM,
        "the engine's process may write a core dump",
        "its memory holds the mount's key",
        "let the plugin set its own limits: no seccomp filter on setrlimit",
    ),
    "dumpable": (
        Grade.MEDIUM,
        "the engine's process can be read by other processes of its user",
        "its memory holds the mount's key",
        "let the plugin call prctl: no seccomp filter on it",
    ),
    "swappable": (
        Grade.LOW,
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
        "What runs is the file that the catalog registers, and it runs on every node.",
        digests,
        of_mounts=True,
    ),
    Check(
        "engine-process",
        "the engine's process",
        "What its memory holds cannot leave it: no core dump, no debugger, no swap.",
        processes,
        of_mounts=True,
    ),
)
