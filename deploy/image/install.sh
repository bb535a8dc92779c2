#!/bin/sh
# Installs what `make test-image` builds and runs images with, where it is missing and apt may.
set -eu
wanted=
[ -x /usr/bin/docker ] && command -v dockerd >/dev/null || wanted="$wanted docker.io"
command -v debootstrap >/dev/null || wanted="$wanted debootstrap"
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the image test needs$wanted; installing takes root and apt, which are not to be had here" >&2
    exit 2
fi
# The tests start a server of their own: none of the machine's is to be started by the installation.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
echo "installing with apt-get:$wanted"
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null' sh $wanted ||
    { echo "apt-get could not install:$wanted" >&2; exit 2; }
