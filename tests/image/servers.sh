#!/bin/sh
# Makes one image that stands in for those of RabbitMQ, Ceph, Prometheus and Alertmanager, from Debian's packages,
# for a machine that can pull none.
#   tests/image/servers.sh ARCHIVE.tar   then: docker import ARCHIVE.tar NAME
# Debian sid, whose versions are nearest to those of deploy/compose.yaml. What compose rests on is as in their own
# images: numbers of users, whose folders are whose. Needs root, and debootstrap.
set -eu
archive=$1
[ "$(id -u)" = 0 ] || { echo "debootstrap changes root, which only root may: run as root" >&2; exit 2; }
# The mirror that this machine itself is installed from, where it is a Debian.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1)

root=$(mktemp -d)
system=$root/system
exec 3>&2 >"$root/log" 2>&1
trap 'code=$?; [ $code = 0 ] || tail -n 30 "$root/log" >&3; rm -rf "$root"; exit $code' EXIT

within() { chroot "$system" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

# shellcheck disable=SC2086
unshare --mount debootstrap --variant=minbase sid "$system" $mirror
# Nothing is started in there, nobody reads its pages, and dpkg need not wait for the disk.
printf '#!/bin/sh\nexit 101\n' >"$system/usr/sbin/policy-rc.d"
chmod +x "$system/usr/sbin/policy-rc.d"
{
    echo force-unsafe-io
    printf 'path-exclude %s\n' '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*'
} >"$system/etc/dpkg/dpkg.cfg.d/small"
# Scripts of Ceph's packages ask for a systemd that runs, which is nowhere here: it is what they hold that counts.
within apt-get install -y --no-install-recommends \
    rabbitmq-server radosgw ceph-mon ceph-osd prometheus prometheus-alertmanager curl wget || true
for program in rabbitmqctl radosgw radosgw-admin ceph ceph-mon ceph-osd monmaptool prometheus \
    prometheus-alertmanager curl wget; do
    within sh -c "command -v $program"
done
# The official images' own numbers. Prometheus and Alertmanager run as nobody.
within usermod --non-unique --uid 999 rabbitmq
within mkdir -p /etc/rabbitmq/conf.d /prometheus /alertmanager
within chown -R 999:999 /var/lib/rabbitmq /var/log/rabbitmq /etc/rabbitmq
within chown -R 167:167 /var/lib/ceph
within chown 65534:65534 /prometheus /alertmanager
rm -rf "$system"/var/cache/apt/archives/*.deb "$system"/var/lib/apt/lists/*
tar -C "$system" --numeric-owner -cf "$archive" .
