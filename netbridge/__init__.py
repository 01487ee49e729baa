"""Links on this host: bridge, veth, addresses, nftables, priority on the wire. See netbridge/README.md."""
