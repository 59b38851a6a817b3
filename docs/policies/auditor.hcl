# The least policy for an auditor of the mounts below skyflow/: status and audit posture. It
# writes nothing and reads no token, and posture names what it may not read.

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
path "skyflow/+/roles/" {
  capabilities = ["list"]
}
path "skyflow/+/health" {
  capabilities = ["read"]
}

# The registered plugins, to compare them with what runs.
path "sys/plugins/catalog" {
  capabilities = ["read"]
}
path "sys/plugins/catalog/secret/skyflow" {
  capabilities = ["read"]
}
