"""The manifest that ``init`` writes: small, commented, valid."""

_TEXT = """\
# yaml-language-server: $schema=./mounts.schema.json
#
# The Skyflow mounts of one platform. This file contains no secret: it only references
# the credentials.
#
#   skyflowctl schema > mounts.schema.json    completion and checks in your editor
#   skyflowctl validate                       is it correct?
#   skyflowctl apply --dry-run                would it work? (no server needed)
#   skyflowctl plan                           what would change on the server?
#   skyflowctl apply                          change it

version: 1                # the version of this format
manifest: my-platform     # the id of this file, recorded on what it creates; never change it

plugin:
  name: skyflow           # the mount type, as registered with: skyflowctl plugin register
  version: {version}

defaults:
  path_prefix: skyflow    # the mount "order" lives at skyflow/order
  tags: [env:dev]         # added to every mount's own tags
  rotation:
    max_age: 90d          # an older credential is due for rotation
    renew_before: 14d     # and so is a credential that expires within two weeks

mounts:
  order:                  # one product line: one mount, one credential
    description: Order orchestration
    tags: [product:order]
    # protect: true       # never disabled or pruned
    credentials:
      file: credentials/order.json     # relative to this file; or env: NAME,
                                       # or keyring: {{service: S, username: U}}
    roles:

      # An application reads its token with:
      #   bao read skyflow/order/creds/order-producer ctx=order:ORD-42
      order-producer:
        role_ids: [skyflow-role-order-prod]    # exactly one Skyflow role id
        description: Order service writer
        ctx:
          required: true       # no token without a ctx
          pattern: "order:*"   # of this form;
          probe: "order:probe" # health checks use this one
"""


def starter_text(plugin_version: str) -> str:
    """Return the manifest for a plugin of this version (such as ``v1.0.0``)."""
    return _TEXT.format(version=plugin_version)
