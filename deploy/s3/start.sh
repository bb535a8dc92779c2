#!/bin/sh
# A small S3 server for one machine: Ceph's gateway over one monitor and one disk in a file, all under one user
# who is not root. Its conditional put is atomic, which the services' commits rest on.
#   deploy/s3/start.sh DATA SECRETS
# DATA keeps everything; SECRETS has a file s3-<user> for each user, with AWS_ACCESS_KEY_ID and
# AWS_SECRET_ACCESS_KEY. S3_ADDRESS and MONITOR are the addresses of the gateway and the monitor, DISK the size of
# a new disk. One copy of everything, on one disk: for anything that must not be lost use a store of your own.
set -eu
data=$1 secrets=$2
address=${S3_ADDRESS:-0.0.0.0:8000} monitor=${MONITOR:-127.0.0.1:3300} disk=${DISK:-64G}
run=${RUN:-/tmp/ceph}
mkdir -p "$run" "$data"

stop() {
    trap - EXIT TERM INT
    # The gateway first, so that nobody writes any more.
    for pid in ${gateway:-} ${osd:-} ${mon:-}; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap 'stop; exit 0' TERM INT
trap stop EXIT

[ -s "$data/fsid" ] || cat /proc/sys/kernel/random/uuid >"$data/fsid"
fsid=$(cat "$data/fsid")
conf=$run/ceph.conf
cat >"$conf" <<EOF
[global]
fsid = $fsid
mon_host = v2:$monitor
public_addr = ${monitor%:*}
cluster_addr = ${monitor%:*}
ms_bind_ipv6 = false
# Nothing but the gateway is reached from outside this container.
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = bluestore
bluestore_block_size = $(numfmt --from=iec "$disk")
osd_memory_target = 1073741824
bluestore_cache_autotune = false
bluestore_cache_size = 134217728
run_dir = $run
admin_socket = $run/\$name.asok
pid_file = $run/\$name.pid
log_to_file = false
log_to_stderr = true
crash_dir = $run
mon_data = $data/mon
osd_data = $data/osd
[client]
rgw_frontends = beast tcp_nodelay=1 endpoint=$address
rgw_data = $data/rgw
EOF
ceph="-c $conf"

if [ ! -e "$data/mon/done" ]; then
    rm -rf "$data/mon"
    mkdir -p "$data/mon"
    monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:$monitor]" "$run/monmap" >&2
    ceph-mon $ceph --mkfs -i a --monmap "$run/monmap" --no-mon-config
    touch "$data/mon/done"
fi
ceph-mon $ceph -i a -f --no-mon-config &
mon=$!
if [ ! -e "$data/osd/done" ]; then
    rm -rf "$data/osd"
    mkdir -p "$data/osd"
    [ -s "$data/osd.uuid" ] || cat /proc/sys/kernel/random/uuid >"$data/osd.uuid"
    ceph $ceph --connect-timeout 60 osd new "$(cat "$data/osd.uuid")" >&2
    ceph-osd $ceph -i 0 --mkfs --osd-uuid "$(cat "$data/osd.uuid")"
    touch "$data/osd/done"
fi
ceph-osd $ceph -i 0 -f &
osd=$!
mkdir -p "$data/rgw"

# $1 of the file $2: a value that is no hexadecimal number is none of secrets.sh, nor fit for a command line.
value() { sed -n "s/^$1=\([0-9A-Za-z]\{8,\}\)\$/\1/p" "$2"; }

# Users before the gateway: whoever reaches it finds all of them, with the keys that are in the files now.
admin="radosgw-admin $ceph -n client.rgw.a"
for file in "$secrets"/s3-*; do
    user=${file##*/s3-}
    key=$(value AWS_ACCESS_KEY_ID "$file") secret=$(value AWS_SECRET_ACCESS_KEY "$file")
    [ -n "$key" ] && [ -n "$secret" ] || { echo "start.sh: $file holds no keys: deploy/compose/secrets.sh" >&2; exit 2; }
    known=$($admin user info --uid="$user" 2>/dev/null) || {
        known=$($admin user create --uid="$user" --display-name="$user" --access-key="$key" --secret="$secret")
        echo "start.sh: made the user $user" >&2
    }
    # Keys of an earlier file are no longer good.
    for old in $(printf '%s' "$known" | sed -n 's/.*"access_key": "\([^"]*\)".*/\1/p'); do
        [ "$old" = "$key" ] || $admin key rm --uid="$user" --key-type=s3 --access-key="$old" >/dev/null
    done
    case $known in
    *"\"secret_key\": \"$secret\""*) ;;
    *) $admin key create --uid="$user" --key-type=s3 --access-key="$key" --secret="$secret" >/dev/null ;;
    esac
done

radosgw $ceph -n client.rgw.a -f &
gateway=$!
# If one of them ends, all do, and whoever started this starts it again.
while kill -0 "$mon" 2>/dev/null && kill -0 "$osd" 2>/dev/null && kill -0 "$gateway" 2>/dev/null; do
    sleep 2 &
    wait $! || true
done
echo "start.sh: one of Ceph's three servers ended" >&2
exit 1
