# What an identity needs that rotates every mount below skyflow/, and no more: it reads no
# token (creds), changes no role and mounts nothing. For one product line write its name
# in the place of the +. The token also needs the server's own policy `default`.

# What is live, and the write of its successor with check-and-set.
path "skyflow/+/config" {
  capabilities = ["read", "update"]
}

# Tries the new key before the write, and the live one on every node after it.
path "skyflow/+/config/verify" {
  capabilities = ["update"]
}

# The end of a rotation, and the way back.
path "skyflow/+/config/commit" {
  capabilities = ["update"]
}
path "skyflow/+/config/rollback" {
  capabilities = ["update"]
}
path "skyflow/+/config/history/" {
  capabilities = ["list"]
}

# rotate --retire alone: the kept copy of the old key.
path "skyflow/+/config/history/*" {
  capabilities = ["delete"]
}

# Which nodes the cluster has; each of them must prove the new key.
path "sys/ha-status" {
  capabilities = ["read"]
}

# Whether the old key is in use elsewhere (--retire), and which mounts there are (--all).
path "sys/mounts" {
  capabilities = ["read"]
}

# Whether a mount was cut off while another engine ran it: the mark is in the mount's options.
path "sys/mounts/skyflow/+" {
  capabilities = ["read"]
}
