#!/bin/sh
# The memory nodes that the dump of the EPYC 7451 lacks, as arguments of from_tree.py: amd_nodes.sh 4 | 1 (nodes per socket).
node=/sys/devices/system/node
lists="0-5,48-53 6-11,54-59 12-17,60-65 18-23,66-71 24-29,72-77 30-35,78-83 36-41,84-89 42-47,90-95"
[ "$1" = 4 ] || lists="0-23,48-71 24-47,72-95"
set -- "$1" $lists
per=$1; shift
count=$#
echo "/proc/meminfo=MemTotal: 268435456 kB"
echo "$node/online=0-$((count - 1))"
number=0
for list in "$@"; do
    far=
    other=0
    while [ $other -lt $count ]; do
        if [ $number = $other ]; then far="$far 10"
        elif [ $((number / per)) = $((other / per)) ]; then far="$far 16"
        else far="$far 32"; fi
        other=$((other + 1))
    done
    echo "$node/node$number/cpulist=$list"
    echo "$node/node$number/meminfo=Node $number MemTotal: $((268435456 / count)) kB"
    echo "$node/node$number/distance=${far# }"
    number=$((number + 1))
done
