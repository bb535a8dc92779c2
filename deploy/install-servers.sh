#!/bin/sh
# Installs the servers and tools that the tests start by themselves, where they are missing and apt may.
#   deploy/install-servers.sh rabbitmq ceph monitoring chromium pdf docker kubectl compose buildx rabbitmq-4.0 rabbitmq-4.3
# The newer RabbitMQs come as small Debian systems of their own under .servers, which nothing else sees, and so do
# single programs that only a newer Debian has: .servers/compose/usr/libexec/docker/cli-plugins/docker-compose and,
# where the machine has no kubectl, .servers/kubectl/usr/bin/kubectl (that of Debian 12 knows too old a kustomize).
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

# Prometheus with promtool, Alertmanager with amtool. No function may have the name of a program: `command -v` finds it.
monitoring() {
    command -v prometheus >/dev/null && command -v promtool >/dev/null || wanted="$wanted prometheus"
    command -v amtool >/dev/null || wanted="$wanted prometheus-alertmanager"
}

# For pictures of pages.
browser() {
    command -v chromium >/dev/null || wanted="$wanted chromium"
}

# What WeasyPrint needs to write a report as PDF, and what the tests read it with. The fonts come with matplotlib.
pdf() {
    for library in libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0; do
        dpkg -s "$library" >/dev/null 2>&1 || wanted="$wanted $library"
    done
    command -v pdftotext >/dev/null || wanted="$wanted poppler-utils"
}

# A Docker with its client, beside whatever other client there is; debootstrap makes the base of the images.
docker_engine() {
    [ -x /usr/bin/docker ] && command -v dockerd >/dev/null || wanted="$wanted docker.io"
    command -v debootstrap >/dev/null || wanted="$wanted debootstrap"
}

# A RabbitMQ of another Debian: $1 its folder, $2 the Debian that has it.
system() {
    [ -d "$servers/$1" ] && return
    systems="$systems $1=$2"
    command -v debootstrap >/dev/null || wanted="$wanted debootstrap"
}

# A program of another Debian: $1 its folder, $2 the package that has it, $3 the Debian.
program() {
    [ -d "$servers/$1" ] || programs="$programs $1=$2=$3"
}

wanted=
systems=
programs=
for server in "$@"; do
    case $server in
    rabbitmq | ceph | monitoring | pdf) "$server" ;;
    docker) docker_engine ;;
    chromium) browser ;;
    compose) program compose docker-compose sid ;;
    buildx) program buildx docker-buildx sid ;;
    kubectl) command -v kubectl >/dev/null || program kubectl kubectl sid ;;
    rabbitmq-4.0) system "$server" trixie ;;
    rabbitmq-4.3) system "$server" sid ;;
    *)
        echo "usage: $0 {rabbitmq|ceph|monitoring|chromium|pdf|docker|kubectl|compose|buildx|rabbitmq-4.0|rabbitmq-4.3}..." >&2
        exit 2
        ;;
    esac
done
[ -n "$wanted$systems$programs" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, since that takes root and apt:$wanted$systems$programs" >&2
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

[ -n "$systems$programs" ] || exit 0
# The mirror that this machine itself is installed from.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
if [ -z "$mirror" ]; then
    echo "not installed, since apt here knows no mirror of Debian:$systems$programs" >&2
    exit 0
fi
mkdir -p "$servers"
# One at a time: a folder in the making is nobody else's, and what an earlier one left half made goes.
exec 9>"$servers/lock"
flock 9
for each in $programs; do
    name=${each%%=*} suite=${each##*=} package=${each#*=}
    package=${package%=*}
    [ -d "$servers/$name" ] && continue
    making=$servers/$name.part
    rm -rf "$making"
    mkdir -p "$making/fetched/partial" "$making/lists/partial" "$making/system"
    echo "deb $mirror $suite main" >"$making/sources.list"
    echo "making .servers/$name from $package of Debian $suite"
    # apt with lists of its own, that knows of nothing installed: what this machine has and knows stays as it is.
    if (
        cd "$making/fetched"
        set -- -o "Dir::Etc::SourceList=$making/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o "Dir::State::Lists=$making/lists" -o "Dir::Cache=$making" -o Dir::State::status=/dev/null \
            -o APT::Sandbox::User=root
        apt-get "$@" update && apt-get "$@" download "$package" && dpkg-deb -x "$package"_*.deb "$making/system"
    ) >"$servers/$name.log" 2>&1 9>&-; then
        mv "$making/system" "$servers/$name"
    else
        echo "apt-get could not fetch .servers/$name; see .servers/$name.log" >&2
    fi
    rm -rf "$making"
done
[ -z "$systems" ] || command -v debootstrap >/dev/null || exit 0
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
