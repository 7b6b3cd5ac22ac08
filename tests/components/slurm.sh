#!/bin/bash
# A real Slurm on one machine: munged, slurmctld and nodes n1, n2, ... of 4 CPUs each, on 127.0.0.1; about a second.
#   slurm.sh up DIR NODES PORT     start it; everything it keeps is in DIR; PORT and the next NODES ports are its own
#   slurm.sh down DIR              end it, with everything that still runs in it
#   slurm.sh killnode DIR n2       a power cut: every process of that node dies at once
#   slurm.sh startnode DIR n2      and power again
# Use it with SLURM_CONF=DIR/etc/slurm.conf. Needs root and Debian's slurm-wlm and munge; no systemd, no cgroups.
#
# Each slurmd has a UTS and a pid namespace of its own: as two hosts have, the nodes have different names and the same
# pids, and the files in common. A killed first process takes the whole namespace with it.
set -eu
export PATH=$PATH:/usr/sbin:/sbin
verb=$1 dir=$2
export SLURM_CONF=$dir/etc/slurm.conf

configure() {  # NODES PORT
    mkdir -p "$dir"/{etc,state,spool,log,run}
    head -c 1024 /dev/urandom >"$dir/etc/munge.key"
    chmod 400 "$dir/etc/munge.key"
    # cred_expire: a requeued job starts again only when its old credential is no more, after 121 s by default.
    # JobCompType: what became of jobs, without a database. KillWait: from TERM to KILL.
    cat >"$SLURM_CONF" <<END
ClusterName=lab
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$2
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0,bf_interval=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobs
JobRequeue=1
KillWait=5
MinJobAge=3600
CompleteWait=0
InactiveLimit=0
MessageTimeout=10
SlurmdTimeout=10
ReturnToService=2
SlurmdParameters=config_overrides
TCPTimeout=2
END
    cp /etc/hosts "$dir/etc/hosts"
    for number in $(seq "$1"); do
        echo "127.0.0.1 n$number" >>"$dir/etc/hosts"
        echo "NodeName=n$number NodeHostname=n$number NodeAddr=127.0.0.1 Port=$(($2 + number)) CPUs=4 RealMemory=4000" \
            >>"$SLURM_CONF"
    done
    echo "PartitionName=main Nodes=n[1-$1] Default=YES DefaultTime=10 MaxTime=60 OverSubscribe=NO State=UP" >>"$SLURM_CONF"
}

start_node() {  # NODE
    mkdir -p "$dir/spool/$1"
    setsid unshare --uts --mount --pid --fork --kill-child=KILL --mount-proc bash -c '
        hostname "$1"
        mount --bind "$2/etc/hosts" /etc/hosts
        slurmd -D -N "$1" >>"$2/log/slurmd.$1.out" 2>&1 &
        wait $!' _ "$1" "$dir" </dev/null >/dev/null 2>&1 &
    echo $! >"$dir/run/node.$1.pid"
}

all_idle() {  # NODES: `idle*` has not said anything yet
    [ "$(sinfo -h -N -o %t 2>/dev/null | grep -cx idle)" = "$1" ]
}

lives() {  # PID: a zombie is dead
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) && stat=${stat##*) } && [ "${stat%% *}" != Z ]
}

end() {  # PIDFILE SIGNAL TENTHS: wait so long for its end, then KILL
    [ -s "$1" ] || return 0
    local pid
    pid=$(cat "$1")
    kill "-$2" "$pid" 2>/dev/null || true
    for _ in $(seq "$3"); do lives "$pid" || break; sleep 0.1; done
    ! lives "$pid" || kill -KILL "$pid"
    rm -f "$1"
}

case $verb in
    up)
        configure "$3" "$4"
        munged --force --num-threads=2 --key-file="$dir/etc/munge.key" --socket="$dir/run/munge.sock" \
            --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged.log" --seed-file="$dir/run/munge.seed"
        (cd "$dir" && slurmctld -c)
        for number in $(seq "$3"); do start_node "n$number"; done
        for _ in $(seq 600); do ! all_idle "$3" || exit 0; sleep 0.1; done
        sinfo -N -l >&2
        tail -n 20 "$dir"/log/* >&2
        exit 1
        ;;
    down)
        for node in "$dir"/run/node.*.pid; do end "$node" KILL 50; done
        end "$dir/run/slurmctld.pid" TERM 10  # its state is saved at once, then it lingers
        end "$dir/run/munged.pid" TERM 50
        ;;
    killnode) end "$dir/run/node.$3.pid" KILL 50 ;;
    startnode) start_node "$3" ;;
    *) echo "slurm.sh: up, down, killnode or startnode, not $verb" >&2; exit 2 ;;
esac
