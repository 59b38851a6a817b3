#!/bin/sh
# Proves that a service reads its own secret and no other's, with its own AppRole login.
#
#   check-service.sh FOLDER SERVICE OTHER...
#
# FOLDER has the files role_id and secret_id, without a line break at the end. It needs `bao`, and
# BAO_ADDR and BAO_CACERT. It tries to log in 5 times, and prints no secret.
set -eu
folder=$1 service=$2
shift 2
tries=0
until token=$(bao write -field=token auth/approle/login \
  role_id=@"$folder/role_id" secret_id=@"$folder/secret_id"); do
  tries=$((tries + 1))
  [ "$tries" -lt 5 ] || { echo "$service: no login after 5 tries" >&2; exit 1; }
  sleep 2
done
BAO_TOKEN=$token bao read "secret/data/$service" >/dev/null ||
  { echo "$service cannot read its own secret" >&2; exit 1; }
for other; do
  if BAO_TOKEN=$token bao read "secret/data/$other" >/dev/null 2>&1; then
    echo "$service can read the secret of $other" >&2
    exit 1
  fi
done
BAO_TOKEN=$token bao token revoke -self >/dev/null
echo "$service reads its own secret, and no other's"
