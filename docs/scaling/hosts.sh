#!/usr/bin/env bash
# Four hosts on one machine, and a sweep over them: hosts.sh RATE OPTION…, as hosts.sh 1gbit --ranks 1,2 --out sweep.
#
# Each host is a network namespace with a name, shared memory and a link of its own, which is limited to RATE both ways.
# All share one core, and each has a fifth of its time at most, whatever the others do. The rest is filled up, as a virtual
# core that rests is slow to come back. Needs root, ip and tc, and the cpu controller of cgroups, version 1.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
rate=$1
shift
cluster() { PYTHONPATH="$here/../../tests/cluster" python -c "import namespaces; namespaces.$1(('host1', 'host2', 'host3', 'host4'))"; }
clear() {
    cluster down
    rmdir /sys/fs/cgroup/cpu/ddptest_* 2>/dev/null || true
}
clear
taskset -c 0 chrt --idle 0 sh -c 'while :; do :; done' &
filler=$!
trap 'kill $filler; clear' EXIT
cluster up
number=0
for host in host1 host2 host3 host4; do
    # A small bucket: with a large one the first bytes behind a pause go through at any rate.
    limit=(root tbf rate "$rate" burst 32kb latency 50ms)
    tc qdisc add dev ddpveth$number "${limit[@]}"
    ip netns exec $host tc qdisc add dev eth0 "${limit[@]}"
    number=$((number + 1))
    mkdir -p "/sys/fs/cgroup/cpu/ddptest_$host"
    echo 5000 >"/sys/fs/cgroup/cpu/ddptest_$host/cpu.cfs_period_us"
    echo 1000 >"/sys/fs/cgroup/cpu/ddptest_$host/cpu.cfs_quota_us"
    # What a host couldn't use as another had the core is kept for its next period; else more hosts have less each.
    echo 1000 >"/sys/fs/cgroup/cpu/ddptest_$host/cpu.cfs_burst_us"
done
python -m launch scaling --hosts host1:1,host2:1,host3:1,host4:1 --links "$rate" \
    --mpi-args "-launcher ssh -launcher-exec $here/host.sh -iface ddptest0" "$@"
