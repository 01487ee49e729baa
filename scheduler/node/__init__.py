"""This host as the daemon sees it: one task per execution, everything taken with its undoing. Reports, never appends."""
