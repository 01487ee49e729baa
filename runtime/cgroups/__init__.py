"""Control groups of jobs: one group per execution in every hierarchy, its limits, its freezer, its end.

Read in this order:

    limits.py          what a job may use, as one value (pure)
    files.py           the only place that reads and writes kernel files here: one os.write each, read back
    memory.py memory_min.py hugetlb.py cpu.py cpuset.py blkio.py net_cls.py net_prio.py devices.py pids.py
                       one module per controller: `apply(place, limits)` for v1 and v2 side by side
    net_egress.py      the priority class by BPF; net_priority.py: what carries it on which host
    oom_v1.py          learns of an OOM kill where the kernel kills one process only
    pressure.py        PSI: how long the container waited, and for what
    programs.py        BPF programs on a v2 group, made of bpf_code.py's instructions
    freezer.py         the contract; freezer_v1.py and freezer_v2.py keep it
    kill.py            how everything in a group dies, with and without `cgroup.kill`
    group.py           JobGroup: the groups of one execution
    tree.py            CgroupTree: the root group in each hierarchy, creation, the table of controllers
    vacate.py          makes a delegated v2 root an inner node: its processes move to a leaf
    private_mounts.py  hierarchies that the host compiled in and did not mount (net_cls, net_prio)

Shape, the same in every hierarchy (docs/design/cgroup-levels.md says why each limit sits where it does):

    <root>/<execution>/        cpu, cpuset, I/O weight
    <root>/<execution>/mon     the monitor: never frozen, never killed, outside the job's memory limit
    <root>/<execution>/run     the container: memory, hugetlb, pids, devices, I/O throttle, net_*, freezer

Nothing is imported here: the launcher side loads `private_mounts` alone.
"""
