"""Plan and apply of N mounts with 5 roles each, against Terraform on the same server.

    SKYFLOWCTL_PEER_PROVIDER=FOLDER python benchmarks/terraform.py [N [ROUNDS]]   # 100 mounts, 3

FOLDER has HashiCorp's vault provider (``terraform-provider-vault``); ``terraform`` is found on the
PATH. Both send as many requests at once (10). Terraform writes the same mounts, roles and keys as
generic endpoints, and keeps a state file; it reads roles back, but no key, because no read returns
one. Each round: apply without mounts, then a plan that changes nothing, first by Terraform, then
by skyflowctl. CPU is that of the command with its children; requests are those in the audit log.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _compare import Ratio, judge
from scale import KEYS, ROLES, Site, Spent, median
from support.bao import running_bao
from support.emulator import running_emulator

PROVIDER = os.environ.get("SKYFLOWCTL_PEER_PROVIDER", "")
TERRAFORM = shutil.which("terraform") or ""
_CONFIG = """
terraform {
  required_providers {
    vault = { source = "hashicorp/vault" }
  }
}
provider "vault" {
  address          = "%(address)s"
  token            = "%(token)s"
  ca_cert_file     = "%(ca)s"
  skip_child_token = true
}
locals {
  keys  = { for n in range(%(size)d) : format("m%%04d", n) => "key${n %% %(keys)d}.json" }
  roles = { for pair in setproduct(keys(local.keys), range(%(roles)d)) :
    "${pair[0]}/roles/role-${pair[1]}" => { mount = pair[0], id = "role-${pair[1]}" } }
}
resource "vault_mount" "all" {
  for_each = local.keys
  path     = "skyflow/${each.key}"
  type     = "skyflow"
}
resource "vault_generic_endpoint" "role" {
  for_each             = local.roles
  path                 = "${vault_mount.all[each.value.mount].path}/roles/${each.value.id}"
  data_json            = jsonencode({ role_ids = [each.value.id] })
  ignore_absent_fields = true
}
resource "vault_generic_endpoint" "config" {
  for_each     = local.keys
  path         = "${vault_mount.all[each.key].path}/config"
  data_json    = jsonencode({ credentials_json = file(each.value) })
  disable_read = true
  depends_on   = [vault_generic_endpoint.role]
}
"""


class Terraform:
    """Terraform in the folder of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        values = {"address": site.server.address, "token": site.server.token}
        values |= {"ca": site.server.ca, "size": site.size, "keys": len(site.keys)}
        (site.folder / "main.tf").write_text(_CONFIG % (values | {"roles": ROLES}))
        settings = site.folder / "terraformrc"
        settings.write_text(
            f'provider_installation {{\n  dev_overrides {{ "hashicorp/vault" = "{PROVIDER}" }}\n'
            "  direct {}\n}\n"
        )
        site.environ |= {"TF_CLI_CONFIG_FILE": str(settings), "CHECKPOINT_DISABLE": "1"}

    def plan(self) -> Spent:
        """Plan; exit code 0 says that there is nothing to change."""
        return self._site.measured([TERRAFORM, "plan", "-detailed-exitcode", "-no-color"])

    def apply(self) -> Spent:
        """Apply without a state, as at the first time."""
        for state in self._site.folder.glob("terraform.tfstate*"):
            state.unlink()
        return self._site.measured([TERRAFORM, "apply", "-auto-approve", "-no-color"])


def main() -> int:
    """Measure N mounts and print what each side spent."""
    if not (PROVIDER and TERRAFORM):
        print("skipped: SKYFLOWCTL_PEER_PROVIDER or terraform is missing")
        return 0
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    found: dict[str, list[Spent]] = {}
    with (
        running_emulator() as emulator,
        running_bao() as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        scopes = [f"role-{number}" for number in range(ROLES)]
        keys = [emulator.new_account(*scopes) for _ in range(min(size, KEYS))]
        site = Site(emulator, server, Path(folder), size, keys)
        peer = Terraform(site)
        cases: dict[str, Callable[[], Spent]] = {
            "terraform apply": peer.apply,
            "terraform plan": peer.plan,
            "skyflowctl apply": lambda: site.command("apply"),
            "skyflowctl plan": lambda: site.command("plan"),
        }
        site.command("apply")  # the audited headers, and the first start of the engine
        for _ in range(rounds):
            for name, run in cases.items():
                if name.endswith("apply"):
                    site.disable_all()
                found.setdefault(name, []).append(run())
    print(f"{size} mounts: medians of {rounds} rounds   wall s   CPU s  requests")
    for name, spent in found.items():
        wall, cpu, requests = (median(spent, one) for one in ("wall", "cpu", "requests"))
        print(f"  {name:<30}{wall:9.2f}{cpu:8.2f}{requests:10.0f}")
    ratios = [
        Ratio(f"{name}, {what}", *([getattr(one, what) for one in found[f"{who} {name}"]]
                                   for who in ("skyflowctl", "terraform")))
        for name in ("plan", "apply")
        for what in ("wall", "cpu")
    ]  # fmt: skip
    return judge("skyflowctl against Terraform", ratios)


if __name__ == "__main__":
    sys.exit(main())
