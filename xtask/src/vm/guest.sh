#!/bin/sh
# First and second stage of the guest. Stage one is the initramfs: it finds the host's files and moves there.
# Stage two is process 1 on top of them: it makes the machine complete, runs the command and reports its status.
# Both run by the busybox that the initramfs brought along, so nothing depends on what the host has.

die() { echo "leash-vm: $*" >/dev/console; /busybox poweroff -f 2>/dev/null; /run/vm/busybox poweroff -f; }

stage_one() {
    /busybox mkdir -p /proc /sys /dev /lower /upper /ov /root
    /busybox mount -t devtmpfs dev /dev
    /busybox mount -t proc proc /proc
    /busybox mount -t sysfs sys /sys
    if /busybox grep -q leash.probe /proc/cmdline; then
        echo "leash-vm: probe ok" >/dev/console
        /busybox poweroff -f
    fi
    for module in /modules/*.ko; do
        /busybox insmod "$module" || die "couldn't load $module"
    done
    v9fs=trans=virtio,version=9p2000.L,msize=512000
    /busybox mount -t 9p -o "$v9fs,ro,cache=loose" root /lower || die "couldn't mount the host's files"
    /busybox mount -t tmpfs -o mode=755 upper /upper
    /busybox mkdir /upper/data /upper/work
    /busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /ov || die "couldn't mount the overlay"
    # The overlay stays reachable below /run/vm: what lies under /tmp and /run has to be fetched from there.
    /busybox mount --bind /ov /root
    /busybox mount -t tmpfs -o mode=755 run /root/run
    /busybox mkdir -p /root/run/vm/ov /root/run/vm/job /root/tmp
    /busybox mount --move /ov /root/run/vm/ov
    /busybox mount -t tmpfs -o mode=1777 tmp /root/tmp
    /busybox mount -t 9p -o "$v9fs,cache=none" job /root/run/vm/job || die "couldn't mount the job"
    /busybox cp /busybox /init /root/run/vm/
    for kept in /dev /proc /sys; do
        /busybox mkdir -p "/root$kept"
        /busybox mount --move $kept "/root$kept"
    done
    exec /busybox switch_root /root /run/vm/busybox sh /run/vm/init two
}

stage_two() {
    bb=/run/vm/busybox job=/run/vm/job
    $bb mkdir -p /dev/pts /dev/shm /run/lock
    $bb mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 pts /dev/pts
    $bb mount -t tmpfs -o mode=1777 shm /dev/shm
    $bb ln -sfn /proc/self/fd /dev/fd
    $bb ln -sfn /proc/self/fd/0 /dev/stdin
    $bb ln -sfn /proc/self/fd/1 /dev/stdout
    $bb ln -sfn /proc/self/fd/2 /dev/stderr
    $bb mount -t cgroup2 cgroup2 /sys/fs/cgroup || die "no cgroup2"
    echo "+cpu +memory +pids +io" >/sys/fs/cgroup/cgroup.subtree_control
    $bb mount -t bpf bpf /sys/fs/bpf || die "no bpffs"
    $bb mount -t securityfs securityfs /sys/kernel/security || die "no securityfs"
    $bb mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
    $bb mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
    $bb ip link set lo up
    $bb hostname leash-vm

    . $job/settings
    $bb mkdir -p "/lib/modules/$MODULES_RELEASE"
    $bb mount --bind "$MODULES_DIR" "/lib/modules/$MODULES_RELEASE" || die "no modules"
    # Directories of the host that the fresh /tmp and /run would hide.
    while IFS= read -r dir; do
        $bb mkdir -p "$dir" && $bb mount --bind "/run/vm/ov$dir" "$dir" || die "couldn't show $dir"
    done <$job/kept
    tag=0
    while IFS= read -r dir; do
        $bb mkdir -p "$dir"
        $bb mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap "rw$tag" "$dir" || die "couldn't mount $dir"
        tag=$((tag + 1))
    done <$job/rw

    # The ports take one opener each, so programs get pipes, as they would anywhere, and `cat` owns the port.
    port_of() { for name in /sys/class/virtio-ports/*/name; do
        if [ "$($bb cat "$name")" = "$1" ]; then set -- "${name%/name}"; echo "/dev/${1##*/}"; fi
    done; }
    $bb mkfifo /run/vm/out /run/vm/err
    $bb cat </run/vm/out >"$(port_of out)" & cat_out=$!
    $bb cat </run/vm/err >"$(port_of err)" & cat_err=$!
    exec 3>/run/vm/out 4>/run/vm/err
    if [ "$MERGE_OUTPUT" = yes ]; then exec 4>&3; fi
    : >$job/began
    $bb setsid $bb sh $job/command </dev/null >&3 2>&4 3>&- 4>&- &
    wait $!
    status=$?
    exec 3>&- 4>&-
    # A process left behind may hold the pipes for ever; what was written so far is through in a moment.
    ( $bb sleep 5; $bb kill $cat_out $cat_err ) 2>/dev/null &
    wait $cat_out $cat_err
    # What the command wrote to the host may still be in this kernel's cache.
    $bb sync
    echo $status >$job/status.new && $bb mv $job/status.new $job/status
    # A shutdown by the host's own tools would need a running system; this is the kernel's.
    $bb poweroff -f
}

if [ "$1" = two ]; then stage_two; else stage_one; fi
