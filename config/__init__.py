"""Settings and the files that ship. Imports nothing of ours."""
