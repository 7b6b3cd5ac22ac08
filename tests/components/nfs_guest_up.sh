# In the guest that nfs_guest.py starts: a kernel NFS server and two clients, /mnt/nfs1 and /mnt/nfs2, each in a network of its
# own (v1, v2 are the server's ends of their cables); then $COMMAND, a script, is run. From the kernel's command line:
#   NFS_VERSION  4.2 or 3       NFS_OPTIONS  more options of the mounts, begins with a comma     LEASE  the server's, in seconds
#   ONE_NAME     both clients have one host name     LOCK_DAEMON  for version 3: each client has one, to keep locks at the server
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
server=/srv/nfs

memory() { for folder; do mkdir -p "$folder"; mount -t tmpfs memory "$folder"; done; }

serve() {
    memory /run /dev/shm /tmp/scratch
    mkdir -p /run/netns /run/rpc_pipefs /dev/pts $server
    mount -t devpts pts /dev/pts
    hostname server
    ip link set lo up
    mount -t rpc_pipefs pipes /run/rpc_pipefs
    mount -t nfsd nfsd /proc/fs/nfsd
    rm -rf /var/lib/nfs/*tab /var/lib/nfs/v4recovery
    mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/sm /var/lib/nfs/sm.bak
    touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/xtab
    truncate -s 256M /dev/shm/disk && mkfs.ext4 -q /dev/shm/disk && mount -o loop /dev/shm/disk $server
    echo "$LEASE" > /proc/fs/nfsd/nfsv4gracetime
    echo "$LEASE" > /proc/fs/nfsd/nfsv4leasetime
    echo "$server 10.9.0.0/16(rw,sync,no_root_squash,no_subtree_check,fsid=0,insecure)" > /etc/exports
    rpcbind -w 2>/dev/null || rpcbind
    rpc.statd
    exportfs -a
    rpc.mountd
    rpc.nfsd --grace-time 1 --lease-time "$LEASE" 4
}

# In a client's network, for version 3. The lock manager, which is the kernel's, makes itself known to the rpcbind whose socket
# it finds below /run, and asks the statd of its network. Both must be the client's own, and the mount be made where that
# /run is seen: else it takes the server's place in its rpcbind, and whoever asks for a lock waits for ever.
lock_daemon() {  # NUMBER
    mount -t tmpfs memory /run
    mkdir -p /run/rpcbind "/tmp/statd$1/sm" "/tmp/statd$1/sm.bak"
    rpcbind
    rpc.statd --no-notify -P "/tmp/statd$1" -n "10.9.$1.2"
}

# In a client's network, with a host name and a sight of mounts of its own.
mount_it() {  # NUMBER NAME SOURCE
    hostname "$2"
    [ -z "$LOCK_DAEMON" ] || lock_daemon "$1"
    for try in 1 2 3 4 5 6; do
        mount -t nfs -o "vers=$NFS_VERSION,hard,timeo=50,retrans=2$NFS_OPTIONS" "$3" "/mnt/nfs$1" && return
        sleep 1
    done
}

client() {  # NUMBER
    local inside="nsenter --net=/run/netns/c$1" name=n$1 source=10.9.$1.1:/
    [ -z "$ONE_NAME" ] || name=server
    [ "$NFS_VERSION" != 3 ] || source=10.9.$1.1:$server
    ip netns add "c$1"
    ip link add "v$1" type veth peer name eth0 netns "c$1"
    ip address add "10.9.$1.1/24" dev "v$1"
    ip link set "v$1" up
    $inside ip address add "10.9.$1.2/24" dev eth0
    $inside ip link set eth0 up
    $inside ip link set lo up
    mkdir -p "/mnt/nfs$1"
    # To the server a client of version 4 is its host name: two of one name are one, and their locks do not exclude.
    $inside unshare --uts --mount --propagation unchanged bash -c 'mount_it "$@"' bash "$1" "$name" "$source"
}

export -f mount_it lock_daemon
serve
mount --bind /mnt /mnt && mount --make-shared /mnt  # what clients mount there is seen by all
client 1
client 2
if [ "$(grep -c ' /mnt/nfs[12] nfs' /proc/mounts)" = 2 ]; then
    grep ' /mnt/nfs' /proc/mounts
    bash "$COMMAND"
    echo "GUEST-EXIT $?"
else
    echo "GUEST-EXIT mounting failed"
fi
sleep 1  # or what was said last is lost
echo b > /proc/sysrq-trigger
sleep 60
