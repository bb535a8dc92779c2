#!/bin/sh
# One command up: secrets where there are none, images, and everything that deploy/compose.yaml has, until healthy.
#   deploy/compose/up.sh [--demo] [options of `docker compose up`, such as --scale ingest=3]
#   docker compose -f deploy/compose.yaml down            and one down; with --volumes all data go too
# --demo simulates exposures and ends with their references in the bucket.
set -eu
here=$(dirname "$0")
sh "$here/secrets.sh"
compose="docker compose --file $here/../compose.yaml"
if [ "${1:-}" = --demo ]; then
    shift
    # Its references are its own, see demo.env; what is already up with others is started anew.
    compose="$compose --env-file $here/demo.env"
    $compose up --build --detach --wait "$@"
    exec $compose --profile demo run --rm demo
fi
exec $compose up --build --detach --wait "$@"
