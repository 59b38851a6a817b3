"""Five mounts, five plugin processes: what happens to one does not happen to the others."""

from __future__ import annotations

import json
import os
import signal
import ssl
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Self

import psutil
import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    manifest = tmp_path_factory.mktemp("isolation") / "mounts.yaml"
    mounts = "".join(
        f"  {name}:\n    credentials: {{file: credentials/{name}.json}}\n"
        f"    roles: {{reader: {{role_ids: [role-{name}]}}}}\n"
        for name in NAMES
    )
    manifest.write_text(f"version: 1\nmanifest: isolation\nmounts:\n{mounts}")
    with running_stack(manifest, apply=True) as running:
        yield running


def plugin_processes(stack: Stack) -> list[psutil.Process]:
    folder = str(stack.dev / "plugins") + "/"
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(word.startswith(folder) for word in process.info["cmdline"] or ())
    ]


def serving(stack: Stack, mount: str, processes: list[psutil.Process]) -> psutil.Process:
    """The process that serves a mount: the one that is gone after reloading that mount."""
    before = {process.pid for process in processes}
    stack.bao("plugin", "reload", "-mounts", f"skyflow/{mount}/")
    stack.bao("read", f"skyflow/{mount}/creds/reader")
    [new] = [process for process in plugin_processes(stack) if process.pid not in before]
    return new


class Load:
    """Readers of one mount's creds, without retry, until told to stop."""

    def __init__(self, stack: Stack, mounts: tuple[str, ...], workers: int = 2) -> None:
        self.stop = threading.Event()
        self.answers: dict[str, Counter[int]] = {mount: Counter() for mount in mounts}
        self._context = ssl.create_default_context(cafile=stack.exports["BAO_CACERT"])
        self._address = stack.exports["BAO_ADDR"]
        self._token = stack.exports["BAO_TOKEN"]
        self._threads = [
            threading.Thread(target=self._read, args=(mount,))
            for mount in mounts
            for _ in range(workers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for(5)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, more: int) -> None:
        """Until every mount has answered so many times more."""
        goal = {mount: counter.total() + more for mount, counter in self.answers.items()}
        pause = threading.Event()
        for _ in range(3000):
            if all(self.answers[mount].total() >= count for mount, count in goal.items()):
                return
            pause.wait(0.01)
        raise AssertionError(f"the load stands still: {self.answers}")

    def _read(self, mount: str) -> None:
        url = f"{self._address}/v1/skyflow/{mount}/creds/reader"
        while not self.stop.is_set():
            request = urllib.request.Request(url, headers={"X-Vault-Token": self._token})
            try:
                with urllib.request.urlopen(request, context=self._context, timeout=30) as reply:
                    json.loads(reply.read())["data"]["access_token"]
                    self.answers[mount][reply.status] += 1
            except urllib.error.HTTPError as error:
                self.answers[mount][error.code] += 1


def test_one_process_each(stack: Stack) -> None:
    assert len(plugin_processes(stack)) == len(NAMES)


def test_kill_and_reload_of_one_under_load_lose_nothing_on_the_others(stack: Stack) -> None:
    victim, others = NAMES[0], NAMES[1:]
    process = serving(stack, victim, plugin_processes(stack))
    with Load(stack, others) as load:
        os.kill(process.pid, signal.SIGKILL)
        load.wait_for(20)
        # The killed one serves again by itself: the next request starts it.
        stack.bao("read", f"skyflow/{victim}/creds/reader")
        stack.bao("plugin", "reload", "-mounts", f"skyflow/{victim}/")
        load.wait_for(20)
        stack.bao("read", f"skyflow/{victim}/creds/reader")
    assert {mount: set(answers) for mount, answers in load.answers.items()} == {
        mount: {200} for mount in others
    }
    assert len(plugin_processes(stack)) == len(NAMES)


def test_reload_of_a_mount_under_load_loses_nothing_there_either(stack: Stack) -> None:
    with Load(stack, NAMES[:1], workers=4) as load:
        stack.bao("plugin", "reload", "-mounts", f"skyflow/{NAMES[0]}/")
        load.wait_for(20)
    assert set(load.answers[NAMES[0]]) == {200}
