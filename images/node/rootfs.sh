#!/bin/bash
# Makes the node's Debian, rootfs.tar, and what kube-proxy's image needs of it, iptables.tar.
# Usage: rootfs.sh OUT-DIR
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=/dev/null
. ./versions.env

packages=(
	# an init system, and what kubelet, kubeadm and containerd call
	systemd systemd-sysv bash ca-certificates conntrack e2fsprogs ethtool iproute2 iptables kmod
	libseccomp2 mount nftables procps runc socat util-linux
	# what a person types who wants to see packets, rules and programs
	bpftool curl iputils-arping iputils-ping jq tcpdump
)

# What the machine does by default and a container should not: consoles, udev, timers, clean-up of
# directories that are fresh anyway.
# shellcheck disable=SC2016 # mmdebstrap's shell fills in $1
trim='cd "$1" && rm -rf \
	etc/systemd/system/*.wants usr/lib/systemd/system/multi-user.target.wants/* \
	usr/lib/systemd/system/local-fs.target.wants/* usr/lib/systemd/system/timers.target.wants/* \
	usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup* \
	usr/lib/systemd/system/sockets.target.wants/*udev* usr/lib/systemd/system/sockets.target.wants/*initctl* \
	usr/lib/systemd/system/sysinit.target.wants/*udev* \
	usr/share/doc usr/share/man usr/share/locale usr/share/info var/cache/* var/log/*'
# shellcheck disable=SC2016
settle='ln -sf /usr/lib/systemd/system/multi-user.target "$1/etc/systemd/system/default.target"
	ln -sf /dev/null "$1/etc/systemd/system/systemd-binfmt.service"
	for unit in dev-hugepages dev-mqueue sys-fs-fuse-connections sys-kernel-config sys-kernel-debug sys-kernel-tracing; do
		ln -sf /dev/null "$1/etc/systemd/system/$unit.mount"
	done
	: >"$1/etc/machine-id"'

debian() { # TAR VARIANT PACKAGES ARGS...
	mmdebstrap --quiet --mode=root --variant="$2" --include="$3" "${@:4}" "$DEBIAN_SUITE" "$1" </dev/null
}

debian "$1/rootfs.tar" minbase "$(IFS=,; echo "${packages[*]}")" --customize-hook="$trim" --customize-hook="$settle"

debian "$1/iptables.tar" extract iptables,nftables
