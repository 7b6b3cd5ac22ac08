#!/bin/busybox sh
# The first program of the guest that nfs_guest.py starts: loads drivers, then sees the machine it runs on as its own
# root, read-only by 9p below a layer of memory, and goes on there with nfs_guest_up.sh ($UP; from the kernel's command line).
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
for module in $($busybox cat /modules/order); do
    $busybox insmod "/modules/$module" || echo "insmod $module failed"
done
$busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro machine /lower
$busybox mount -t tmpfs -o size=70% memory /memory
$busybox mkdir /memory/upper /memory/work
$busybox mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work root /root
for folder in proc sys dev; do $busybox mount --move /$folder /root/$folder; done
exec $busybox switch_root /root /bin/bash "$UP"
