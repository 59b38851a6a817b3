# The least policy for an auditor of the mounts below skyflow/: status, audit, and every check of
# audit posture. It changes nothing and reads no token. The token also needs the server's policy
# `default`.

# Find the mounts, read each one's options, and the configuration, without its key.
path "sys/mounts" {
  capabilities = ["read"]
}
path "sys/mounts/skyflow/+" {
  capabilities = ["read"]
}
path "skyflow/+/config" {
  capabilities = ["read"]
}
path "skyflow/+/config/history/" {
  capabilities = ["list"]
}
path "skyflow/+/roles/" {
  capabilities = ["list"]
}
path "skyflow/+/roles/+" {
  capabilities = ["read"]
}
path "skyflow/+/health" {
  capabilities = ["read"]
}

# The registered plugins and the nodes, to compare them with what runs.
path "sys/plugins/catalog" {
  capabilities = ["read"]
}
path "sys/plugins/catalog/secret/skyflow" {
  capabilities = ["read", "sudo"]
}
path "sys/ha-status" {
  capabilities = ["read"]
}

# The audit devices, the headers that they log, and the listeners' TLS settings.
path "sys/audit" {
  capabilities = ["read", "sudo"]
}
path "sys/config/auditing/request-headers" {
  capabilities = ["read", "sudo"]
}
path "sys/config/state/sanitized" {
  capabilities = ["read"]
}

# audit who --ctx: the hash of a ctx, as it stands in the log. Nothing is written.
path "sys/audit-hash/+" {
  capabilities = ["update"]
}

# Who can read tokens, and who could get any right: policies, live tokens, logins and groups.
path "sys/policies/detailed/acl/" {
  capabilities = ["list"]
}
path "auth/token/accessors/" {
  capabilities = ["list", "sudo"]
}
path "auth/token/lookup-accessor" {
  capabilities = ["update"]
}
path "sys/auth" {
  capabilities = ["read"]
}
path "auth/+/role/" {
  capabilities = ["list"]
}
path "auth/+/role/+" {
  capabilities = ["read"]
}
path "auth/+/users/" {
  capabilities = ["list"]
}
path "auth/+/users/+" {
  capabilities = ["read"]
}
path "auth/+/groups/" {
  capabilities = ["list"]
}
path "auth/+/groups/+" {
  capabilities = ["read"]
}
path "auth/+/certs/" {
  capabilities = ["list"]
}
path "auth/+/certs/+" {
  capabilities = ["read"]
}
path "auth/token/roles/" {
  capabilities = ["list"]
}
path "auth/token/roles/+" {
  capabilities = ["read"]
}
path "identity/entity/name/" {
  capabilities = ["list"]
}
path "identity/entity/name/+" {
  capabilities = ["read"]
}
path "identity/group/name/" {
  capabilities = ["list"]
}
path "identity/group/name/+" {
  capabilities = ["read"]
}
