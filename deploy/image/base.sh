#!/bin/sh
# Makes the base of the image from Debian's packages, for a machine that can pull none.
#   deploy/image/base.sh ARCHIVE.tar     then: docker import ARCHIVE.tar NAME
# It stands in for a python slim image: Python with venv, and the authorities that this machine itself trusts,
# so that pip works behind a proxy that vouches for itself. Needs root, and debootstrap.
set -eu
archive=$1
for need in debootstrap tar; do
    command -v "$need" >/dev/null || { echo "$need is missing; as root: apt-get install $need" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "debootstrap makes device nodes and changes root, which only root may: run as root" >&2; exit 2; }
# The mirror that this machine itself is installed from, where it is a Debian.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
# What it mounts goes with its namespace, so that the folder may be removed whatever happens.
# shellcheck disable=SC2086
unshare --mount debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
    bookworm "$root/system" $mirror >"$root/log" 2>&1 || { tail -n 20 "$root/log" >&2; exit 1; }
if [ -n "$(find /usr/local/share/ca-certificates -name '*.crt' 2>/dev/null)" ]; then
    cp /usr/local/share/ca-certificates/*.crt "$root/system/usr/local/share/ca-certificates/"
    chroot "$root/system" update-ca-certificates >/dev/null 2>&1
fi
# pip trusts a list of its own unless it is told to trust the system's.
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/system/etc/pip.conf"
rm -rf "$root"/system/var/cache/apt/archives/*.deb "$root"/system/var/lib/apt/lists/*
tar -C "$root/system" --numeric-owner -cf "$archive" .
