#!/usr/bin/env bash
# A real SLURM on this machine alone, for the tests marked `slurm`: installs, configures and starts two nodes, <host>
# and <host>2, each with a slurmd of its own. Needs root and a Debian-like system; run again, it starts what is not
# running. `tests/support/slurm_node.sh stop` ends it.
#
# More processors and memory than the machine may have, so that several jobs run at once; a requeued job starts again
# after seconds (cred_expire), and jobs that have ended are forgotten after a minute, as there is no accounting.
set -euo pipefail

CONF=/etc/slurm/slurm.conf
STATE=${SLURM_NODE_STATE:-/var/lib/slurm-node}

HOST=$(hostname -s)

running() { pgrep -x "$1" > /dev/null; }
lives() { [ -s "$STATE/$1.pid" ] && kill -0 "$(cat "$STATE/$1.pid" 2> /dev/null)" 2> /dev/null; }

stop() {
    for daemon in "$HOST" "${HOST}2" slurmctld; do
        if lives "$daemon"; then
            kill "$(cat "$STATE/$daemon.pid")"
            while lives "$daemon"; do sleep 0.2; done
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
    mkdir -p "$STATE/ctld" "$(dirname "$CONF")"
    cat > "$CONF" << CONFIG
ClusterName=tests
SlurmctldHost=$HOST(127.0.0.1)
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
SlurmdSpoolDir=$STATE/spool.%n
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/%n.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/%n.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=5
NodeName=$HOST NodeHostname=$HOST NodeAddr=127.0.0.1 Port=17001 CPUs=8 RealMemory=16000 State=UNKNOWN
NodeName=${HOST}2 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=17002 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=$HOST,${HOST}2 Default=YES MaxTime=INFINITE State=UP
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
    for node in "$HOST" "${HOST}2"; do
        lives "$node" || slurmd -N "$node"
    done
    for _ in $(seq 60); do
        if [ "$(sinfo --noheader --Node --format=%t 2> /dev/null | grep -cE 'idle|mix|alloc')" = 2 ]; then
            return
        fi
        sleep 0.5
    done
    echo "the nodes did not become idle: see $STATE/*.log" >&2
    exit 1
}

if [ "${1:-start}" = stop ]; then
    stop
else
    [ "$(id -u)" = 0 ] || { echo "needs root, to install and start SLURM" >&2; exit 1; }
    install
    if ! running slurmctld || ! grep -q "^NodeName=${HOST}2 " "$CONF" 2> /dev/null; then
        stop
        configure
    fi
    start
    sinfo
fi
