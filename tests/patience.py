"""How long a test waits for what must come, in seconds: on an emulated, shared processor a second is not much.

Nothing is measured by it: a test that passes has not waited. What must *not* come is waited for briefly.
"""

import os

PATIENCE_S = 60.0
SLOWNESS = 8.0 if "JOBS_VM_BOOT" in os.environ else 1.0  # what a test must time itself takes so much longer in a guest
