#!/bin/sh
# What mpirun calls in place of ssh for the hosts of hosts.sh: host.sh [OPTIONS] HOST COMMAND….
here=$(dirname "$(realpath "$0")")
while [ "${1#-}" != "$1" ]; do shift; done
echo $$ >"/sys/fs/cgroup/cpu/ddptest_$1/cgroup.procs"
exec taskset -c 0 "$here/../../tests/cluster/rsh" "$@"
