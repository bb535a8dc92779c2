#!/bin/sh
# Asks what is known against what we deliver, and fails if something is, or if nobody could be asked.
#   deploy/audit.sh [ARGUMENT OF pip-audit]...
# Python packages: each of requirements.lock, by pip-audit. Debian packages: those of each SBOM in build/sbom
# (`make sbom`), by debsbom; this part only tells, since Debian leaves much open that does not matter.
# SBOMS names another folder, DEBIAN_TRACKER a copy of Debian's security tracker (JSON) that is asked instead.
set -eu
cd "$(dirname "$0")/.."
# --strict: without it a package that the service says nothing of counts as one with nothing against it.
.venv/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
    --requirement requirements.lock "$@"

sboms=${SBOMS:-build/sbom}
set -- "$sboms"/*.cdx.json
if [ ! -e "$1" ]; then
    echo "no SBOM in $sboms: of Debian's packages nothing was asked (make sbom)" >&2
    exit 0
fi
tracker=${DEBIAN_TRACKER:-$sboms/security-tracker.json}
# debsbom fetches one where none is: not that of an earlier time.
[ -n "${DEBIAN_TRACKER:-}" ] || rm -f "$tracker"
for sbom in "$@"; do
    echo "$sbom:"
    .venv/bin/debsbom sec-scan --db "$tracker" --distro bookworm --min-urgency medium "$sbom"
done
