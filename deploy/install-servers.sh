#!/bin/sh
# Installs the servers that the tests start by themselves, where they are missing and apt may.
#   deploy/install-servers.sh rabbitmq ceph
# Without root or apt it says so and leaves the rest to the tests: they skip, or fail where CI=true.
set -eu

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

wanted=
for server in "$@"; do
    case $server in
    rabbitmq | ceph) "$server" ;;
    *) echo "usage: $0 [rabbitmq] [ceph]" >&2; exit 2 ;;
    esac
done
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, since that takes root and apt:$wanted" >&2
    exit 0
fi
# The tests start servers of their own: none of the machine's is to be started by the installation.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
echo "installing with apt-get:$wanted"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $wanted >/dev/null; }; then
    echo "apt-get could not install:$wanted" >&2
fi
