"""How long a test waits for what must come, in seconds: on an emulated, shared processor a second is not much.

Nothing is measured by it: a test that passes has not waited. What must *not* come is waited for briefly.
"""

PATIENCE_S = 60.0
