#!/bin/sh
# The main job on a simulated campaign: exposures in, dark references and a noise report out.
set -eu
darks=.venv/bin/nircam-darks
[ -f demo/simulated/truth.json ] || "$darks" simulate --demo --out demo/simulated
status=0
"$darks" run demo/simulated/darks --out demo/results || status=$?
# 3: something was rejected. The campaign holds one file cut short, to show what becomes of it.
[ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status"
echo "$(pwd)/demo/results/report.html"
