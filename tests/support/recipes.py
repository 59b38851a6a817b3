"""Runs the printed token sources of other languages: each in a process that asks for tokens."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.tied import die_with_parent

_DRIVERS = Path(__file__).parent / "recipe_drivers"


@dataclass(frozen=True)
class Language:
    """How a recipe is compiled and started.

    Args:
        file: what the recipe's text is written to.
        driver: the program around it: a line of ctx values in, a line of tokens out.
        compiles: the command that compiles both; empty: none.
        starts: the command that runs them.
    """

    file: str
    driver: str
    compiles: tuple[str, ...]
    starts: tuple[str, ...]


LANGUAGES: Mapping[str, Language] = {
    "node": Language("token-source.mjs", "driver.mjs", (), ("node", "driver.mjs")),
    "java": Language(
        "TokenSource.java",
        "Driver.java",
        ("javac", "-Xlint:all", "-Werror", "TokenSource.java", "Driver.java"),
        ("java", "-XX:TieredStopAtLevel=1", "-cp", ".", "Driver"),
    ),
    "go": Language(
        "token_source.go",
        "driver.go",
        ("go", "build", "-o", "driver", "token_source.go", "driver.go"),
        ("./driver",),
    ),
}


@dataclass
class RunningRecipe:
    """A process with one token source."""

    process: subprocess.Popen[str]

    def tokens(self, *ctxs: str) -> list[str]:
        """Ask for tokens at the same time; an error's text begins with ``error:``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\t".join(ctxs) + "\n")
        self.process.stdin.flush()
        answers = self.process.stdout.readline().rstrip("\n").split("\t")
        assert len(answers) == len(ctxs), answers
        return answers


@contextlib.contextmanager
def running_recipe(
    language: str, text: str, folder: Path, ca: Path | None = None
) -> Iterator[RunningRecipe]:
    """Compile and start a recipe's text, which reads its login from a folder."""
    about = LANGUAGES[language]
    (folder / about.file).write_text(text)
    shutil.copy(_DRIVERS / about.driver, folder)
    if about.compiles:
        done = subprocess.run(
            about.compiles, cwd=folder, text=True, capture_output=True, timeout=240, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr
    process = subprocess.Popen(
        about.starts,
        cwd=folder,
        env={**os.environ, **(_trusting(language, ca, folder) if ca else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=die_with_parent,
    )
    with process:
        try:
            yield RunningRecipe(process)
        finally:
            process.kill()


def _trusting(language: str, ca: Path, folder: Path) -> dict[str, str]:
    if language != "java":
        return {"node": {"NODE_EXTRA_CA_CERTS": str(ca)}, "go": {"SSL_CERT_FILE": str(ca)}}[
            language
        ]
    store = folder / "trusted.p12"
    words = ["-importcert", "-noprompt", "-alias", "ca", "-storepass", "changeit"]
    subprocess.run(
        ["keytool", *words, "-file", str(ca), "-keystore", str(store)],
        capture_output=True,
        timeout=60,
        check=True,
    )
    options = {"trustStore": str(store), "trustStorePassword": "changeit"}
    words = [f"-Djavax.net.ssl.{name}={value}" for name, value in options.items()]
    return {"JDK_JAVA_OPTIONS": " ".join(words)}
