#!/bin/sh
# Installs the servers that the tests start by themselves, where they are missing and apt may.
#   deploy/install-servers.sh rabbitmq ceph rabbitmq-4.0 rabbitmq-4.3
# The newer RabbitMQs come as small Debian systems of their own under .servers, which nothing else sees.
# Without root or apt it says so and leaves the rest to the tests: they skip, or fail where CI=true.
set -eu

servers=$(cd "$(dirname "$0")/.." && pwd)/.servers

rabbitmq() {
    command -v rabbitmq-server >/dev/null || [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] ||
        wanted="$wanted rabbitmq-server"
    command -v openssl >/dev/null || wanted="$wanted openssl"
}

ceph() {
    command -v radosgw >/dev/null && command -v ceph-mon >/dev/null && command -v ceph-osd >/dev/null ||
        wanted="$wanted ceph-mon ceph-osd radosgw"
    command -v openssl >/dev/null || wanted="$wanted openssl"
}

# A RabbitMQ of another Debian: $1 its folder, $2 the Debian that has it.
system() {
    [ -d "$servers/$1" ] && return
    systems="$systems $1=$2"
    command -v debootstrap >/dev/null || wanted="$wanted debootstrap"
}

wanted=
systems=
for server in "$@"; do
    case $server in
    rabbitmq | ceph) "$server" ;;
    rabbitmq-4.0) system "$server" trixie ;;
    rabbitmq-4.3) system "$server" sid ;;
    *) echo "usage: $0 [rabbitmq] [ceph] [rabbitmq-4.0] [rabbitmq-4.3]" >&2; exit 2 ;;
    esac
done
[ -n "$wanted$systems" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, since that takes root and apt:$wanted$systems" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive

if [ -n "$wanted" ]; then
    # The tests start servers of their own: none of the machine's is to be started by the installation.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    echo "installing with apt-get:$wanted"
    # shellcheck disable=SC2086
    if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $wanted >/dev/null; }; then
        echo "apt-get could not install:$wanted" >&2
    fi
fi

[ -n "$systems" ] || exit 0
command -v debootstrap >/dev/null || exit 0
# The mirror that this machine itself is installed from.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
if [ -z "$mirror" ]; then
    echo "not installed, since apt here knows no mirror of Debian:$systems" >&2
    exit 0
fi
mkdir -p "$servers"
# One at a time: a folder in the making is nobody else's, and what an earlier one left half made goes.
exec 9>"$servers/lock"
flock 9
for each in $systems; do
    name=${each%%=*} suite=${each#*=}
    [ -d "$servers/$name" ] && continue
    making=$servers/$name.part
    rm -rf "$making"
    echo "making .servers/$name from Debian $suite"
    # What it mounts goes with its namespace, so that the folder may be removed whatever happens.
    if unshare --mount debootstrap --variant=minbase --include=rabbitmq-server "$suite" "$making" "$mirror" \
        >"$servers/$name.log" 2>&1 9>&-; then
        rm -rf "$making"/var/cache/apt/archives/*.deb "$making"/var/lib/apt/lists/*
        echo '127.0.0.1 localhost' >"$making/etc/hosts"
        mv "$making" "$servers/$name"
    else
        rm -rf "$making"
        echo "debootstrap could not make .servers/$name; see .servers/$name.log" >&2
    fi
done
