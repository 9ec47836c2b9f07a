#!/bin/bash
# Writes the images that kubeadm asks for, each one static binary in one layer, as one archive that
# containerd imports. No container engine is involved.
# Usage: controlplane.sh ROOTFS-DIR BINARIES-DIR... OUT-DIR
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=/dev/null
. ./versions.env
rootfs=$1 out=${*: -1}
binaries=("${@:2:$#-2}")
work=$out/work

main() {
	local name
	mkdir -p "$work"
	"$(find_binary kubeadm)" config images list --kubernetes-version "$KUBERNETES_VERSION" >"$out/names"
	check_names
	while read -r name; do
		write_image "$name"
	done <"$out/names"
	(IFS=,; echo "[${manifests[*]}]") >"$work/manifest.json"
	tar -C "$work" -cf "$out/images.tar" .
	rm -rf "$work"
}

# check_names: what is built here is what this kubeadm wants.
check_names() {
	local want
	for want in "etcd:${ETCD_VERSION#v}-" "coredns:$COREDNS_VERSION"; do
		grep -q "/$want" "$out/names" || {
			echo "controlplane.sh: kubeadm $KUBERNETES_VERSION wants another version than $want: $(grep "/${want%%:*}:" "$out/names"); change versions.env and tools/" >&2
			exit 1
		}
	done
}

find_binary() { find "${binaries[@]}" -name "$1" -type f | grep . || { echo "controlplane.sh: no binary $1" >&2; exit 1; }; }

manifests=()

# write_image NAME: adds its layer and configuration to the archive.
write_image() {
	local program=${1##*/} layer config
	program=${program%%:*}
	layer=$work/$program
	mkdir -p "$layer/usr/local/bin"
	cp "$(find_binary "$program")" "$layer/usr/local/bin/"
	case $program in
	kube-proxy) add_iptables "$layer" ;;
	# Its manifest gives arguments and no command.
	coredns) ln -s usr/local/bin/coredns "$layer/coredns" ;;
	esac
	tar -C "$layer" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$layer.tar" .
	rm -rf "$layer"
	config=$(printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/usr/local/bin/%s"],"Env":["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
		"$(go env GOARCH)" "$program" "$(sha256sum "$layer.tar" | cut -d' ' -f1)")
	echo "$config" >"$work/$program.json"
	# Every node has a copy of this: smaller is faster.
	gzip -n -4 "$layer.tar"
	manifests+=("{\"Config\":\"$program.json\",\"RepoTags\":[\"$1\"],\"Layers\":[\"$program.tar.gz\"]}")
}

# add_iptables DIR: what kube-proxy calls. The packages were unpacked and not installed, so the links
# that installing makes are made here. The variant is nft's, Debian's default, as on the node.
add_iptables() {
	local name verb
	tar -C "$1" -xf "$rootfs/iptables.tar" ./usr/lib ./usr/lib64 ./usr/sbin
	rm -rf "$1"/usr/lib/*/{gconv,perl-base}
	ln -s usr/lib usr/lib64 "$1/"
	for name in iptables ip6tables; do
		for verb in '' -save -restore; do
			ln -s xtables-nft-multi "$1/usr/sbin/$name$verb"
		done
	done
}

main
