#!/bin/sh
# One command up: secrets where there are none, images, and everything that deploy/compose.yaml has, until healthy.
#   deploy/compose/up.sh [--demo] [options of `docker compose up`, such as --scale ingest=3]
#   deploy/compose/up.sh --no-build                       with images that were pulled: INGEST_IMAGE and its like name them
#   docker compose -f deploy/compose.yaml down            and one down; with --volumes all data go too
# --demo simulates exposures and ends with their references in the bucket.
set -eu
here=$(dirname "$0")
sh "$here/secrets.sh"
compose="docker compose --file $here/../compose.yaml"
demo=
[ "${1:-}" != --demo ] || { demo=yes; shift; }
build=--build
case " $* " in *" --no-build "*) build= ;; esac
if [ "$demo" ]; then
    # Its references are its own, see demo.env; what is already up with others is started anew.
    compose="$compose --env-file $here/demo.env"
    $compose up $build --detach --wait "$@"
    # What it needs is up; `run` would scale it back to one of each.
    exec $compose --profile demo run --rm --no-deps demo
fi
exec $compose up $build --detach --wait "$@"
