"""A command that reads logs with several processes is interrupted."""

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
from support.audit_logs import Story, approle
from support.cli import checked_envelope
from support.cluster import wait_until
from support.stack import clean_environ

READERS = 3
DRIVER = textwrap.dedent("""
    import os, signal
    from pathlib import Path
    from skyflowctl.audit import ranges, scan, sift, sources

    ranges.RANGE_BYTES, sources.PARALLEL_BYTES = 3_000, 0
    os.sched_getaffinity = lambda _: {0, 1, 2}

    def stops_in_the_middle(results):
        def read(*args):
            yield next(results(*args))
            (Path(os.environ["MARKS"]) / str(os.getpid())).touch()
            signal.pause()
        return read

    scan.pair_part = stops_in_the_middle(scan.pair_part)
    sift.Sifter.sift_part = stops_in_the_middle(sift.Sifter.sift_part)
    from skyflowctl.cli.main import start
    start()
""")


def is_running(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("everyone", [False, True], ids=["command", "its group"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [("who", "--ctx", "order:1"), ("report",)])
def test_an_interrupted_reader_leaves_no_process_and_no_answer(
    command: tuple[str, ...], number: signal.Signals, code: int, *, everyone: bool, tmp_path: Path
) -> None:
    story, marks = Story(plain_ctx=True), tmp_path / "marks"
    for _ in range(40):
        story.creds(approle("orders"), "order:1")
    log = tmp_path / "audit.log"
    log.write_bytes(story.device())
    marks.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, "audit", *command, str(log), "-o", "json"],
        env={**clean_environ(), "MARKS": str(marks)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: len(list(marks.iterdir())) == READERS, "all readers are in a part")
        if everyone:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code
    answer = checked_envelope(out)
    assert (answer["status"], answer["data"]) == ("error", {})
    assert not [each.name for each in marks.iterdir() if is_running(int(each.name))]
