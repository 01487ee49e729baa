"""This host as the daemon sees it: one task per execution, each thing taken with its undoing. Reports only."""
