#!/bin/sh
# The main job on a simulated campaign: exposures in, dark references and a noise report out.
set -eu
darks=.venv/bin/nircam-darks
# The simulated exposures bring their own CRDS cache: whatever the user has set for real data must not take its place.
for name in $(env | sed -n 's/^\(\(AWS\|CRDS\|DARKS\|STPIPE\)_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
# Exposures that an earlier version simulated are another campaign: simulate refuses to add to them.
if [ -e demo/simulated ] && ! "$darks" simulate --demo --out demo/simulated 2>/dev/null; then
    echo "demo/simulated is of an earlier version of the campaign; simulating it again"
    rm -rf demo/simulated demo/results
fi
"$darks" simulate --demo --out demo/simulated
status=0
"$darks" run demo/simulated/darks --out demo/results || status=$?
# 3: something was rejected. The campaign holds one file cut short, to show what becomes of it.
[ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status"
[ -n "$(find demo/results/darkref -name '*_dark.fits' 2>/dev/null | head -n 1)" ] || {
    echo "the demo built no dark reference; see demo/results/run.log" >&2
    exit 1
}
.venv/bin/python - demo/results/summary.json <<'EOF' || exit 1
import json, sys
unusable = [dark for dark in json.load(open(sys.argv[1]))["references"] if not dark["accepted"]]
for dark in unusable:
    print(f"{dark['configuration']}: {dark['verification'] or dark['verdict']}", file=sys.stderr)
sys.exit(bool(unusable))
EOF
echo "$(pwd)/demo/results/report.html"
