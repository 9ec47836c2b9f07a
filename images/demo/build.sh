#!/bin/bash
# Makes the tools layer of the demo image: build.sh OUT writes a tar of a root file system with
# the real ip, ss, ping, arping, tcpdump and curl, from the distribution's packages, with the libraries they
# load, and busybox for all else. Needs no root. --arch arm64 takes the packages of another architecture; what of them has to
# run here, their loader and busybox, then runs under qemu-user.
#
# The same packages give the same bytes. The result is kept in the cache under the hash of what it is made
# from: this script, the distribution's release and the architecture; `build.sh --fresh OUT` asks for newer package versions.
set -euo pipefail
umask 022

packages=(bash busybox-static coreutils iproute2 iputils-ping iputils-arping tcpdump curl)
# busybox's sh and env would run its own ip and ping, whatever PATH says.
tools=(bash env ip ss ping arping tcpdump curl)

say() { echo "demo tools: $*" >&2; }
die() { echo "demo tools: $*" >&2; exit 1; }

main() {
	local fresh=
	if [ "${1-}" = --fresh ]; then fresh=1; shift; fi
	arch=
	if [ "${1-}" = --arch ]; then arch=${2-}; shift 2; fi
	[ $# = 1 ] || { echo "usage: build.sh [--fresh] [--arch amd64|arm64] OUT" >&2; exit 2; }
	local out=$1 self key kept
	command -v apt-get >/dev/null || die "this machine has no apt-get; the tools come from Debian's or Ubuntu's packages"
	native=$(dpkg --print-architecture)
	arch=${arch:-$native}
	self=$(realpath "$0")
	cache=${XDG_CACHE_HOME:-$HOME/.cache}/wirelab/demo-tools
	key=$(cat "$self" /etc/os-release <(echo "$arch") | sha256sum | cut -c1-16)
	kept=$cache/$key.tar
	mkdir -p "$cache" "$(dirname "$out")"
	exec 9>"$cache/lock"
	flock -w 600 9 || die "another build has held $cache/lock for ten minutes: let it end first"
	if [ -n "$fresh" ] || [ ! -s "$kept" ]; then
		make_layer "$kept"
		find "$cache" -name '*.tar' ! -path "$kept" -mtime +30 -delete
	fi
	cmp -s "$kept" "$out" || { cp "$kept" "$out.new" && mv "$out.new" "$out"; }
	# make compares times: a file that is right must not look older than what it is made from.
	touch "$out"
}

make_layer() {
	local kept=$1
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	choose_architecture
	unpack
	lay_out
	record
	tar -C "$work/root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -cf "$work/layer.tar" .
	mv "$work/layer.tar" "$kept"
	say "$(du -h "$kept" | cut -f1)"
}

# choose_architecture sets how apt is asked for the packages, and what runs their programs. Of this machine's own architecture
# that is as ever; of another one the package lists are kept apart, so that nothing of it is known to this machine.
choose_architecture() {
	apt=(apt-get -qq -o Debug::NoLocking=1)
	run=()
	# apt fetches as a user of its own, which may not write into a folder of root's.
	[ "$(id -u)" != 0 ] || apt+=(-o APT::Sandbox::User=root)
	[ "$arch" != "$native" ] || return 0
	case $arch in
	amd64) run=(qemu-x86_64) ;;
	arm64) run=(qemu-aarch64) ;;
	*) die "there is no wirelab for $arch: take amd64 or arm64" ;;
	esac
	command -v "${run[0]}" >/dev/null || die "${run[0]} is missing, under which the loader of $arch's packages runs: apt-get install qemu-user"
	mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
	apt+=(-o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache")
	say "reading the package lists of $arch"
	if ! "${apt[@]}" update >"$work/apt.log" 2>&1 || ! "${apt[@]}" -o Dir::State::status=/dev/null --print-uris install busybox-static >>"$work/apt.log" 2>&1; then
		die "this machine's package sources have none for $arch, as Debian's have: $(tail -n1 "$work/apt.log")"
	fi
}

# unpack downloads the packages and all they depend on, as on a machine where nothing is installed.
unpack() {
	mkdir "$work/debs" "$work/all"
	: >"$work/status"
	local list
	list=$("${apt[@]}" --print-uris --no-install-recommends \
		-o Dir::State::status="$work/status" install "${packages[@]}" 2>"$work/apt.log") ||
		die "the package lists do not offer ${packages[*]}: run apt-get update, then again ($(tail -n1 "$work/apt.log"))"
	# A line is 'URI' FILE SIZE HASH; FILE is name_version_arch.deb with %3a for a colon.
	awk '{print $2}' <<<"$list" | sed -E 's/^([^_]+)_([^_]+)_.*/\1=\2/; s/%3a/:/' | LC_ALL=C sort >"$work/versions"
	say "downloading $(wc -l <"$work/versions") packages"
	(cd "$work/debs" && xargs "${apt[@]}" download <"$work/versions") 2>"$work/apt.log" ||
		die "the packages could not be downloaded: run apt-get update, then again ($(tail -n1 "$work/apt.log"))"
	local deb
	for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/all"; done
}

lay_out() {
	local root=$work/root tool
	mkdir -p "$root"/usr/{bin,lib} "$root"/{etc,dev,proc,sys,run,root,var}
	mkdir -m 1777 "$root/tmp"
	local name
	for name in bin sbin lib lib64; do ln -s "usr/${name/sbin/bin}" "$root/$name"; done
	ln -s bin "$root/usr/sbin"
	ln -s lib "$root/usr/lib64"
	install -m 755 "$(find_file busybox)" "$root/usr/bin/busybox"
	for tool in "${tools[@]}"; do
		install -m 755 "$(find_file "$tool")" "$root/usr/bin/$tool"
		add_libraries "$root/usr/bin/$tool"
	done
	ln -s bash "$root/usr/bin/sh"
	for tool in $("${run[@]}" "$root/usr/bin/busybox" --list); do
		[ -e "$root/usr/bin/$tool" ] || ln -s busybox "$root/usr/bin/$tool"
	done
	write_etc "$root/etc"
}

# find_file NAME prints where the packages put a program or library; the shortest path is the real one.
find_file() {
	local found
	found=$(find -L "$work/all" -name "$1" -type f -printf '%d %p\n' | LC_ALL=C sort -n | head -n1 | cut -d' ' -f2-)
	[ -n "$found" ] || die "no package brought $1"
	echo "$found"
}

# add_libraries asks the packages' own loader, not this machine's, what a program loads.
add_libraries() {
	local loader library path
	loader=$(find_file 'ld-linux*.so.*')
	local dirs
	dirs=$(find "$work/all" -name '*.so.*' -printf '%h\n' | LC_ALL=C sort -u | paste -sd:)
	install -D -m 755 "$loader" "$work/root/usr/lib/$(basename "$loader")"
	while read -r library path; do
		[ -n "$path" ] || die "$(basename "$1") needs $library, which no package brought"
		[ -e "$work/root/usr/lib/$library" ] || install -m 644 "$path" "$work/root/usr/lib/$library"
	done < <("${run[@]}" "$loader" --library-path "$dirs" --list "$1" | awk '$2 == "=>" && $1 !~ /^\// {print $1, ($3 ~ /^\//) ? $3 : ""}')
}

write_etc() {
	printf '%s\n' root:x:0:0:root:/root:/bin/sh tcpdump:x:100:100::/:/bin/false \
		nobody:x:65534:65534:nobody:/:/bin/false >"$1/passwd"
	printf '%s\n' root:x:0: tcpdump:x:100: nogroup:x:65534: >"$1/group"
	echo 'hosts: files dns' >"$1/nsswitch.conf"
}

# record leaves in the image what it was made from.
record() {
	local doc=$work/root/usr/share/doc/wirelab-demo
	mkdir -p "$doc"
	cp "$work/versions" "$doc/packages"
}

main "$@"
