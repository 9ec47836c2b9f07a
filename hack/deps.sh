#!/bin/bash
# Prepares this machine for wirelab: installs from the distribution's packages what is missing, starts
# Docker where nothing else does, raises the kernel limits a kind cluster runs into. Doing it again
# changes nothing and takes no time. Needs root on Debian 12 or newer, or Ubuntu.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=/dev/null
. ./docker.sh

say() { echo "deps: $*"; }
die() { echo "deps: $*" >&2; exit 1; }

# Each line: the package, then a command or a file by which it is known to be there already.
# Docker is chosen in missing_docker.
requirements='
iproute2               ip
iptables               iptables
nftables               nft
tcpdump                tcpdump
libbpf-dev             /usr/include/bpf/bpf_helpers.h
linux-libc-dev         /usr/include/linux/bpf.h
clang-19               clang-19
llvm-19                llvm-strip-19
clang-format-19        clang-format-19
clang-tidy-19          clang-tidy-19
mmdebstrap             mmdebstrap
debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
busybox-static         busybox
cpio                   cpio
kmod                   depmod
xz-utils               xz
zstd                   zstd
gcc                    gcc
libc6-dev              /usr/include/stdlib.h
shellcheck             shellcheck
nodejs                 node
chromium               chromium
ca-certificates        /etc/ssl/certs/ca-certificates.crt
'

main() {
	check_machine
	# Two runs at once would fight over the package database and start two dockerds.
	exec 9>/run/lock/wirelab-deps.lock
	flock -w 600 9 || die "another run has held /run/lock/wirelab-deps.lock for ten minutes: let it end first"
	install_runtime
	install_packages
	start_docker
	raise_limit fs.inotify.max_user_instances 512
	raise_limit fs.inotify.max_user_watches 524288
}

check_machine() {
	[ "$(id -u)" = 0 ] || die "this installs packages and starts Docker: run it as root"
	command -v apt-get >/dev/null ||
		die "this machine has no apt-get: wirelab prepares Debian 12 or newer and Ubuntu; elsewhere, install Docker, clang-19 and libbpf by hand"
	command -v go >/dev/null || die "go is not on PATH: install Go 1.26 or newer first"
}

# have NAME: NAME is a command or an existing file.
have() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# offered PACKAGE: the distribution has it, as far as the downloaded lists say.
offered() { apt-cache show --no-all-versions "$1" >/dev/null 2>&1; }

install_packages() {
	local missing
	missing=$(missing_packages)
	[ -n "$missing" ] || return 0
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
	local apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
	say "reading the package lists"
	# A third party's list that cannot be read need not matter; a package nobody offers will be named below.
	"${apt[@]}" update </dev/null 9>&- || say "some package lists could not be read: going on with the others"
	# The lists are new, so other packages may be on offer now.
	missing=$(missing_packages | without_compiler)
	[ -n "$missing" ] || return 0
	say "installing ${missing//$'\n'/ }"
	local log=/var/log/wirelab-deps.log
	# shellcheck disable=SC2086 # a list of words
	if ! "${apt[@]}" install --yes --no-install-recommends $missing </dev/null >"$log" 2>&1 9>&-; then
		tail -n 20 "$log" >&2
		die "apt-get could not install a package: $log has it all"
	fi
}

missing_packages() {
	local package sign
	while read -r package sign; do
		[ -z "$package" ] || have "$sign" || echo "$package"
	done <<<"$requirements"
	missing_docker
}

# without_compiler leaves out the compiler where the distribution has no such: a lab needs none, because the BPF objects are
# committed. What compares them with their sources fails there.
without_compiler() {
	local package
	while read -r package; do
		case $package in
		clang-* | llvm-*) if ! offered "$package"; then
			say "this distribution has no $package: labs work, make test fails" >&2
			continue
		fi ;;
		esac
		echo "$package"
	done
}

missing_docker() {
	if ! engine_answers && ! have dockerd; then
		echo docker.io
	fi
	# Newer releases ship the client apart from the engine.
	if ! have docker && offered docker-cli; then
		echo docker-cli
	fi
}

# raise_limit SYSCTL VALUE: until the next boot, and never lower it.
raise_limit() {
	local file=/proc/sys/${1//.//} now
	now=$(cat "$file")
	[ "$now" -lt "$2" ] || return 0
	if echo "$2" >"$file" 2>/dev/null; then
		say "raised $1 from $now to $2 (until the next boot)"
	else
		say "$1 is $now and cannot be raised here: more than a few nodes may fail to start"
	fi
}

main
