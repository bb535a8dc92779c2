#!/bin/sh
# Makes the passwords and keys that compose gives to its containers, each in a file of its own:
#   deploy/compose/secrets.sh [FOLDER]          what is there stays
# To change one, remove its file, run this again, and restart who reads it: docs/security.md, With compose.
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"

# $1 bytes from the kernel, as hexadecimal digits.
random() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }

# Compose binds the files as they are, and each container reads them as a user of its own: they can be read by
# anyone who gets to them, and only their owner gets into the folder.
keep() {
    [ -e "$folder/$1" ] || { cat >"$folder/$1.part" && chmod 444 "$folder/$1.part" && mv "$folder/$1.part" "$folder/$1"; }
}

password=$(random 24)
printf '%s\n' "$password" | keep broker-admin
# The same, as RabbitMQ reads it at its first start.
printf 'default_user = admin\ndefault_pass = %s\n' "$(cat "$folder/broker-admin")" | keep broker-admin.conf
for user in ingest darkref noise trigger topology operator monitor; do
    random 24 | keep "broker-$user"
done
for user in owner ingest darkref noise trigger operator sweep reader; do
    printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$(random 10)" "$(random 20)" | keep "s3-$user"
done
random 16 | keep grafana-admin
# Where alerts go is for whoever deploys to say: until then to nobody.
printf 'put-a-PagerDuty-integration-key-here' | keep alertmanager_page_key
printf 'http://127.0.0.1:9/put-the-address-of-an-incoming-webhook-here' | keep alertmanager_ticket_url
