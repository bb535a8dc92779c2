"""Where things lie: the checkout, the tests, and the real files beside the checkout."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
DEPLOY = ROOT / "deploy"
DOCS = ROOT / "docs"
#: Servers that `make servers` unpacks into the checkout.
SERVERS = ROOT / ".servers"
#: One message of each kind as version 1.0 wrote it, and S3 notifications as each maker sends them.
GOLDEN = TESTS / "contract" / "golden"
NOTIFICATIONS = TESTS / "contract" / "notifications"
#: One manifest of each product with figures, as version 1.0 wrote it.
MANIFESTS = TESTS / "contract" / "manifests"
#: Real files; a newcomer has none, and what needs them skips.
SHARED_DATA = ROOT.parent / "shared" / "data"
