#!/bin/bash
# layout.sh FOLDER ROOT GROUP: the first process of a machine. It runs in new namespaces that still see the host's
# files, lays out those of the machine in FOLDER/mnt, and becomes systemd. See machine.py.
set -eu
folder=$1 root=$2 group=$3

read -r pid _ </proc/self/stat # /proc is the host's still, and so is this number
echo "$pid" >"$folder/leader.part" && mv "$folder/leader.part" "$folder/leader"
echo 0 >"$group/cgroup.procs"

# A control group namespace of its own, whose root is GROUP: a second start of this script, behind unshare.
if [ "${IN_GROUP:-}" != yes ]; then IN_GROUP=yes exec unshare --cgroup /bin/bash "$0" "$@"; fi

new=$folder/mnt
mount -t overlay -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" overlay "$new"

mount -t tmpfs -o mode=755,nosuid tmpfs "$new/dev"
for name in null zero full random urandom tty; do
  : >"$new/dev/$name"
  mount --bind "/dev/$name" "$new/dev/$name"
done
mkdir "$new/dev/pts" "$new/dev/shm" "$new/dev/mqueue"
mount -t devpts -o newinstance,nosuid,noexec,ptmxmode=0666,mode=620,gid=5 devpts "$new/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$new/dev/shm"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%%:*}" "$new/dev/${number#*:}"; done
: >"$new/dev/console"
mount --bind "$folder/console" "$new/dev/console"

# Kernel settings cannot be written, except those of its own network. Every boot has an id, as a real one has.
mount -t proc -o nosuid,nodev,noexec proc "$new/proc"
mount --bind "$new/proc/sys" "$new/proc/sys"
mount -o remount,bind,ro,nosuid,nodev,noexec "$new/proc/sys"
mount --bind "$new/proc/sys/net" "$new/proc/sys/net"
mount -o remount,bind,rw "$new/proc/sys/net"
cat /proc/sys/kernel/random/uuid >"$folder/boot_id"
mount --bind "$folder/boot_id" "$new/proc/sys/kernel/random/boot_id"
mount -o remount,bind,ro "$new/proc/sys/kernel/random/boot_id"

mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$new/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$new/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$new/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$new/tmp"

while read -r path; do
  if [ -d "$path" ]; then mkdir -p "$new$path"; else mkdir -p "$(dirname "$new$path")" && : >>"$new$path"; fi
  mount --bind "$path" "$new$path"
  mount -o remount,bind,ro "$new$path"
done <"$folder/binds"

ip link set lo up
hostname testmachine
mkdir "$new/run/host-root"
cd "$new"
pivot_root . run/host-root
exec chroot . /bin/sh -c 'umount -l /run/host-root && rmdir /run/host-root && mount --make-rshared / &&
  exec env -i container=testmachine PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  /lib/systemd/systemd --system --show-status=no'
