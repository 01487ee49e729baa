"""The vocabulary every layer speaks (spec, states, events, records, placement, messages) and the thin CLI.

Imports nothing of the other packages but `config`. Rules: ARCHITECTURE.md, "Layers".
"""
