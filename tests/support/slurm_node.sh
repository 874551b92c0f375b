#!/usr/bin/env bash
# A real SLURM on this machine alone, for the tests marked `slurm`: installs, configures and starts one node. Needs
# root and a Debian-like system; run again, it starts what is not running. `tests/support/slurm_node.sh stop` ends it.
#
# More processors and memory than the machine may have, so that several jobs run at once; a requeued job starts again
# after seconds (cred_expire), and jobs that have ended are forgotten after a minute, as there is no accounting.
set -euo pipefail

CONF=/etc/slurm/slurm.conf
STATE=${SLURM_NODE_STATE:-/var/lib/slurm-node}

running() { pgrep -x "$1" > /dev/null; }

stop() {
    for daemon in slurmd slurmctld; do
        if [ -s "$STATE/$daemon.pid" ] && kill "$(cat "$STATE/$daemon.pid")" 2> /dev/null; then
            while running "$daemon"; do sleep 0.2; done
        fi
    done
}

install() {
    if ! command -v slurmctld > /dev/null || ! command -v slurmd > /dev/null || ! command -v munged > /dev/null; then
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq slurm-wlm munge > /dev/null
    fi
}

configure() {
    local host
    host=$(hostname -s)
    mkdir -p "$STATE/ctld" "$STATE/d" "$(dirname "$CONF")"
    cat > "$CONF" << CONFIG
ClusterName=tests
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
KillWait=10
DefMemPerCPU=1500
MpiDefault=none
MinJobAge=60
SlurmdParameters=config_overrides
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/d
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONFIG
}

start() {
    if ! running munged; then
        [ -s /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom > /etc/munge/munge.key)
        mkdir -p /run/munge /var/log/munge /var/lib/munge
        chown -R munge: /etc/munge /run/munge /var/log/munge /var/lib/munge
        chmod 0755 /run/munge
        runuser -u munge -- munged
    fi
    running slurmctld || slurmctld
    running slurmd || slurmd
    for _ in $(seq 60); do
        if sinfo --noheader --format=%t 2> /dev/null | grep -qE 'idle|mix|alloc'; then
            return
        fi
        sleep 0.5
    done
    echo "the node did not become idle: see $STATE/slurmctld.log and $STATE/slurmd.log" >&2
    exit 1
}

if [ "${1:-start}" = stop ]; then
    stop
else
    [ "$(id -u)" = 0 ] || { echo "needs root, to install and start SLURM" >&2; exit 1; }
    install
    running slurmctld || configure
    start
    sinfo
fi
