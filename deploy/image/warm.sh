#!/bin/sh
# Compiles every kernel that the services use, with the types that they use it with, by running them on a small
# simulated campaign.  warm.sh CACHE
set -eu
export NUMBA_CACHE_DIR=$1
. "$(dirname "$0")/kernel-cpu"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/plan.json" <<'PLAN'
[
 {"detector": "NRCALONG", "subarray": "SUB64P", "ngroups": 10, "exposures": 4},
 {"detector": "NRCB1", "subarray": "SUB64P", "ngroups": 10, "nints": 2, "exposures": 2}
]
PLAN
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }
quietly nircam-darks simulate --plan "$work/plan.json" --out "$work/simulated"
for mode in reference flight; do
    quietly nircam-darks run "$work/simulated/darks" --mode "$mode" --out "$work/results"
done
echo "$(find "$NUMBA_CACHE_DIR" -name '*.nbc' | wc -l) kernels, $(du -sk "$NUMBA_CACHE_DIR" | cut -f1) KiB"
