# The least policy for an operator of the mounts below skyflow/: plan, status, rotate, and apply of
# changed mounts and roles. It writes no policy and registers no plugin: an administrator applies
# the manifest the first time, and whenever its policies change. It cannot read tokens, and destroys
# no key (rotate --retire: rotator.hcl). The token also needs the server's policy `default`.

# plan, apply, status: find the mounts, and compare configuration and roles.
path "sys/mounts" {
  capabilities = ["read"]
}
path "skyflow/+/roles/" {
  capabilities = ["list"]
}
path "skyflow/+/config/history/" {
  capabilities = ["list"]
}

# plan: compare the policies of the manifest. Never grant writes to policies: that is every right.
path "sys/policies/detailed/acl/" {
  capabilities = ["list"]
}

# plan: does the audit log show which run sent a request? An administrator sets the headers.
path "sys/config/auditing/request-headers" {
  capabilities = ["read", "sudo"]
}

# apply: enable a mount, read it back, change its description and options.
path "sys/mounts/skyflow/+" {
  capabilities = ["read", "update"]
}
path "sys/mounts/skyflow/+/tune" {
  capabilities = ["update"]
}

# apply: check a credential before it is written, then write it; write roles.
path "skyflow/+/config" {
  capabilities = ["read", "create", "update"]
}
path "skyflow/+/config/verify" {
  capabilities = ["update"]
}
path "skyflow/+/roles/+" {
  capabilities = ["read", "create", "update"]
}

# rotate, and apply of a new key: verify it on every node, then commit or roll back.
path "sys/ha-status" {
  capabilities = ["read"]
}
path "skyflow/+/config/commit" {
  capabilities = ["update"]
}
path "skyflow/+/config/rollback" {
  capabilities = ["update"]
}

# apply: does a change wait for an approval?
path "sys/control-group/request" {
  capabilities = ["update"]
}

# apply, status: does every role mint? Which plugin is registered?
path "skyflow/+/health" {
  capabilities = ["read"]
}
path "sys/plugins/catalog" {
  capabilities = ["read"]
}
path "sys/plugins/catalog/secret/skyflow" {
  capabilities = ["read", "sudo"]
}
