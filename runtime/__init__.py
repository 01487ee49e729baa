"""Containers on this host: plan, launcher, monitor, cgroups, images. Stages and privileges: runtime/README.md."""
