"""What ``make demo`` runs: skyflowctl's own commands, each shown before it runs.

To run a step by hand, copy any line that starts with ``$`` into a terminal.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

MANIFEST = "examples/mounts.yaml"
BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def main() -> int:
    """Start the stack, apply the manifest, mint a token for every role, print the next steps."""
    for command in (
        ["dev", "up", "-f", MANIFEST],
        ["apply", "--dev", "-f", MANIFEST, "-y"],
        ["health", "--dev", "-f", MANIFEST],
    ):
        show(command)
        code = subprocess.run(["skyflowctl", *command], check=False).returncode
        if code:
            return code
    failures = mint_every_role()
    print_next_steps()
    return 1 if failures else 0


def show(command: list[str]) -> None:
    """Print a command as typed in a terminal."""
    print(f"\n{BOLD}$ skyflowctl {shlex.join(command)}{PLAIN}", flush=True)


def mint_every_role() -> int:
    """Read one token for every role through the server; return how many reads failed."""
    failures = 0
    mounts = output_of(["mount", "list", "--dev", "-f", MANIFEST])["mounts"]
    for mount in mounts:
        for role in output_of(["role", "list", mount["name"], "--dev", "-f", MANIFEST])["roles"]:
            failures += not mint(mount["name"], role)
    return failures


def mint(mount: str, role: dict) -> bool:
    """Read one token, with the ctx of the role's health check, and print the result."""
    command = ["creds", mount, role["name"], "--dev"]
    probe = role["ctx_probe"]
    if probe:
        command += ["--ctx", probe if isinstance(probe, str) else json.dumps(probe)]
    show(command)
    token = output_of(command)
    if not token:
        return False
    shown = token["access_token"][:24]
    print(f"  {shown}{DIM}… valid {token['ttl']} s, key {token['key_id'][:8]}{PLAIN}")
    return True


def output_of(command: list[str]) -> dict:
    """Run a command with ``-o json`` and return its data; empty when it failed."""
    done = subprocess.run(
        ["skyflowctl", *command, "-o", "json"], check=False, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)["data"] if done.returncode == 0 else {}


def print_next_steps() -> None:
    """Print three commands to try next, and how to stop the stack."""
    print(f"""
{BOLD}The stack keeps running. Try these commands:{PLAIN}
  source .venv/bin/activate && eval "$(skyflowctl dev env)"
  bao read skyflow/order/creds/order-producer ctx=order:ORD-42
  skyflowctl status -f {MANIFEST}
{DIM}skyflowctl dev down{PLAIN} stops it.""")


if __name__ == "__main__":
    if not Path(MANIFEST).exists():
        sys.exit(f"run this from the folder that holds {MANIFEST}")
    sys.exit(main())
