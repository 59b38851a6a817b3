# The minimal policy for an identity that rotates every mount below skyflow/. It cannot read
# tokens (creds), change roles or enable mounts. To allow one product line only, replace the
# + with its name. The token also needs the server's policy `default`.

# Read the live config, and write the new key with check-and-set.
path "skyflow/+/config" {
  capabilities = ["read", "update"]
}

# Verify the new key before the write, and the live key on every node after it.
path "skyflow/+/config/verify" {
  capabilities = ["update"]
}

# Commit or roll back a rotation.
path "skyflow/+/config/commit" {
  capabilities = ["update"]
}
path "skyflow/+/config/rollback" {
  capabilities = ["update"]
}
path "skyflow/+/config/history/" {
  capabilities = ["list"]
}

# Only for rotate --retire: delete the kept copy of the old key.
path "skyflow/+/config/history/*" {
  capabilities = ["delete"]
}

# List the nodes of the cluster; each must serve the new key.
path "sys/ha-status" {
  capabilities = ["read"]
}

# Find other mounts that use the old key (--retire), and list the mounts (--all).
path "sys/mounts" {
  capabilities = ["read"]
}

# Read the mount's options: they mark a cut-off made while another engine ran the mount.
path "sys/mounts/skyflow/+" {
  capabilities = ["read"]
}
