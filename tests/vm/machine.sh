#!/bin/bash
# machine.sh - makes the disk of the emulated machine that tests/vm cuts the power of. Debian's packages only.
#
#   machine.sh build CACHE                 root, network; installs mmdebstrap and qemu where they are missing; about 2 min, once
#   machine.sh boot CACHE SOCKET PAYLOAD [WORD]   boots it in the foreground: the root disk forgets everything; the disk behind
#                                          SOCKET (NBD, see disk.py) is /state, PAYLOAD (an ext4 image) is /payload, and
#                                          /payload/init.py is all that runs. WORD is on the kernel's command line. Its
#                                          output is standard output. kill -9 of this process is half a power cut, and
#                                          SIGUSR1 to disk.py is the other half.
#
# Not here: -smp above 1 and the cx16 CPU flag; with either, qemu 7.2's emulation corrupts the guest.
set -euo pipefail
die() { echo "machine.sh: $*" >&2; exit 1; }
[ $# -ge 2 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
VERB=$1 CACHE=$2

install_tools() {
  for tool in mmdebstrap qemu-system-x86_64 mkfs.ext4; do
    command -v "$tool" >/dev/null && continue
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
      install mmdebstrap qemu-system-x86 e2fsprogs >&2
    return
  done
}

build() {
  [ -f "$CACHE/stamp" ] && return
  [ "$(id -u)" = 0 ] || die "the disk is made by root: run this as root, once"
  install_tools
  local root=$CACHE/root mirror
  mkdir -p "$CACHE"; rm -rf --one-file-system "$root"
  mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
  mmdebstrap --quiet --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
    --include=python3,mount,e2fsprogs,udev,initramfs-tools,kmod,linux-image-cloud-amd64 \
    --customize-hook='printf "MODULES=list\nCOMPRESS=gzip\n" >"$1/etc/initramfs-tools/conf.d/small"' \
    --customize-hook='printf "virtio_pci\nvirtio_blk\next4\n" >>"$1/etc/initramfs-tools/modules"' \
    --customize-hook='chroot "$1" update-initramfs -u' \
    bookworm "$root" "${mirror:-http://deb.debian.org/debian}" >"$CACHE/build.log" 2>&1 || { tail -5 "$CACHE/build.log" >&2; die "mmdebstrap failed"; }
  cat >"$root/sbin/machine-init" <<'SH'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root
mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run
mkdir -p /payload /state
mount -o ro /dev/vdb /payload && mount /dev/vdc /state
python3 /payload/init.py </dev/null >/dev/ttyS0 2>&1
echo "MACHINE-RC $?" >/dev/ttyS0
umount /state; sync; echo o >/proc/sysrq-trigger; sleep 10
SH
  chmod 755 "$root/sbin/machine-init"; : >"$root/etc/fstab"
  cp "$root"/boot/vmlinuz-* "$CACHE/kernel"; cp "$root"/boot/initrd.img-* "$CACHE/initrd"
  truncate -s 2G "$CACHE/disk.img"; mkfs.ext4 -q -F -d "$root" "$CACHE/disk.img"
  rm -rf --one-file-system "$root"; date >"$CACHE/stamp"
}

boot() {
  exec qemu-system-x86_64 -accel tcg,thread=single -smp 1 -cpu max,la57=off,cx16=off -m 1024 -display none -no-reboot \
    -netdev user,id=net,restrict=off -device virtio-net-pci,netdev=net,romfile= \
    -kernel "$CACHE/kernel" -initrd "$CACHE/initrd" \
    -append "root=/dev/vda rw console=ttyS0 quiet loglevel=3 panic=-1 init=/sbin/machine-init mitigations=off $3" \
    -drive "file=$CACHE/disk.img,if=virtio,format=raw,snapshot=on" \
    -drive "file=$2,if=virtio,format=raw,readonly=on" \
    -drive "file=nbd:unix:$1,if=virtio,format=raw,cache=writeback" \
    -serial stdio -monitor none </dev/null
}

case $VERB in
  build) build ;;
  boot) [ $# -ge 4 ] || die "boot CACHE SOCKET PAYLOAD [WORD]"; boot "$3" "$4" "${5:-}" ;;
  *) die "unknown verb $VERB" ;;
esac
