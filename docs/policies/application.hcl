# The least policy for an application: tokens of one role, only with a ctx of this form. To
# allow another role, replace the path; consumers of a role get such a policy by themselves.
path "skyflow/order/creds/order-producer" {
  capabilities = ["read", "update"]
  required_parameters = ["ctx"]
  allowed_parameters = {
    "ctx" = ["order:*"]
  }
}
