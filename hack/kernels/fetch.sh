#!/bin/bash
# Fetches what a test machine under another kernel is made of, from Debian's packages: QEMU, a small file system with the
# tools that tests call, and the kernel that a suite has today.
#
#   fetch.sh KERNEL   prints a folder with vmlinuz, version, base.cpio, and qemu, the root of QEMU's own file system
#   fetch.sh --fresh  forgets what is kept, so that the next call asks the suites again
#
# apt checks all that it fetches against the suite's signature. What was fetched is kept, also when the suite has replaced
# it since. Needs root (mmdebstrap).
set -euo pipefail
umask 022
cd "$(dirname "$0")"

# QEMU 7.2, which Debian 12 has, corrupts its guests: it comes from Debian 13, wherever this runs.
suite=trixie

cache=${XDG_CACHE_HOME:-$HOME/.cache}/wirelab/kernels

say() { echo "kernels: $*" >&2; }
die() { echo "kernels: $*" >&2; exit 1; }

main() {
	[ $# = 1 ] || die "usage: fetch.sh KERNEL | fetch.sh --fresh"
	[ "$(id -u)" = 0 ] || die "making a file system takes root: run this as root"
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock -w 1800 9 || die "another run has held $cache/lock for half an hour"
	rm -rf "$cache"/*.part
	if [ "$1" = --fresh ]; then
		rm -rf "${cache:?}"/*-*
		return
	fi
	local tools qemu kernel
	name_sources "$1"
	qemu=$(part qemu "$(declare -f get_qemu)")
	tools=$(part tools "$(declare -f get_tools)")
	kernel=$(part kernel "$(declare -f name_sources get_kernel add_modules)$add_backports$kernel_packages$(cat init)" "$1" "$tools")
	ln -sfn "../${qemu##*/}" "$kernel/qemu"
	echo "$kernel"
}

# name_sources says where a kernel comes from: the release whose version counts, the suite, and sources beside mmdebstrap's
# own. A stable suite keeps its series; backports have what is newest.
name_sources() {
	case $1 in
	5.10) sources=(bullseye-security bullseye) ;;
	6.1) sources=(bookworm-security bookworm) ;;
	6.12) sources=(trixie-security trixie) ;;
	newest) sources=(trixie-backports trixie --setup-hook="$add_backports") ;;
	*) die "there is no kernel $1: it is one of 5.10, 6.1, 6.12 and newest" ;;
	esac
}

# From where the suite itself comes.
# shellcheck disable=SC2016 # mmdebstrap's shell fills in $1
add_backports='sed -n "s/ trixie main/ trixie-backports main/p" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"'

# part NAME INPUTS...: prints the folder that get_NAME has filled from these inputs, now or earlier.
part() {
	local part=$1 name=${3:-$1} dir begin=$SECONDS
	dir=$cache/$name-$(printf '%s\n' "$suite" "$(declare -f unpack)" "${@:2}" | sha256sum | cut -c1-16)
	if [ ! -d "$dir" ]; then
		say "fetching $name"
		mkdir "$dir.part"
		# In a shell of its own: in one whose success is asked for, errors end nothing.
		if ! ./fetch.sh "get_$part" "$dir.part" "${@:3}" >"$cache/log" 2>&1 9>&-; then
			tail -n 20 "$cache/log" >&2
			die "could not fetch $name: $cache/log has all of its output"
		fi
		mv "$dir.part" "$dir"
		say "fetched $name in $((SECONDS - begin)) s"
		forget "$name" "$dir"
	fi
	echo "$dir"
}

# forget removes what the same part was before.
forget() { find "$cache" -maxdepth 1 -name "$1-*" ! -path "$2" -exec rm -rf {} +; }

# unpack DIR SUITE ARGS...: unpacks packages, and installs none. ARGS are mmdebstrap's: which packages, from where.
unpack() {
	mmdebstrap --quiet --mode=root --variant=extract --format=directory --aptopt='Acquire::Retries "3"' "$2" "$1" "${@:3}" </dev/null
	# What installing base-files would have made.
	local name
	for name in bin lib lib64 sbin; do ln -sf "usr/$name" "$1/$name"; done
}

get_qemu() { unpack "$1" "$suite" --include=qemu-system-x86; }

get_tools() {
	unpack "$1" "$suite" --include=busybox-static,iproute2,iptables,kmod
	(cd "$1" && rm -rf boot dev var usr/share)
	ln -s iptables-nft "$1/usr/sbin/iptables"
	ln -s iptables-nft-save "$1/usr/sbin/iptables-save"
	ln -s iptables-nft-restore "$1/usr/sbin/iptables-restore"
}

# A cloud kernel's own packages, without the rest of what an installed one depends on. Which these are today says a package
# that holds nothing.
# shellcheck disable=SC2016 # mmdebstrap's shell fills in $1
kernel_packages='set -e
	export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
	cd "$1"
	apt-get -qq -o APT::Sandbox::User=root download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces linux-image-cloud-amd64 | grep -E "^linux-(image|binary|modules|base)-[0-9]" | sort -u)
	for deb in *.deb; do dpkg-deb -x "$deb" .; done'

# get_kernel DIR KERNEL TOOLS unpacks the kernel and puts its modules for networks, the tools and init into one archive.
get_kernel() {
	local out=$1 root=$1/root tools=$3 version image sources
	name_sources "$2"
	unpack "$root" "${sources[@]:1}" --aptopt="APT::Default-Release \"${sources[0]}\"" --extract-hook="$kernel_packages"
	version=$(find "$root" -path '*/lib/modules/*' -name modules.builtin -printf '%h\n' | xargs -n1 basename)
	image=$(find "$root" -name "vmlinuz*" -type f)
	[ -n "$version" ] && [ -n "$image" ]
	cp "$image" "$out/vmlinuz"
	echo "$version" >"$out/version"
	cp -a "$tools" "$out/tree"
	add_modules "$root" "$version" "$out/tree"
	cp init "$out/tree/init"
	mkdir -p "$out"/tree/{dev,proc,sys,run,tmp,root}
	(cd "$out/tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$out/base.cpio"
	rm -rf "$root" "$out/tree"
}

# add_modules copies the modules that networks of tests may ask for, unpacked here, where that is faster.
add_modules() {
	local from to
	from=$(find "$1" -type d -path "*/lib/modules/$2")
	to=$3/usr/lib/modules/$2
	mkdir -p "$to/kernel/drivers"
	cp "$from"/modules.{builtin,order} "$to"
	cp "$from"/modules.builtin.modinfo "$to" 2>/dev/null || true
	cp -r "$from"/kernel/{net,lib,crypto,arch} "$to/kernel"
	cp -r "$from/kernel/drivers/net" "$to/kernel/drivers"
	rm -rf "$to"/kernel/drivers/net/{ethernet,wireless,phy,usb,hyperv,fjes}
	find "$to" -name '*.ko.xz' -exec xz -d {} +
	find "$to" -name '*.ko.zst' -exec zstd -q -d --rm {} +
	depmod -b "$3/usr" "$2" 2>/dev/null || depmod -b "$3" "$2"
}

case ${1-} in
get_*) "$@" ;;
*) main "$@" ;;
esac
