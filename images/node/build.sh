#!/bin/bash
# Builds the node image: the one container image that every node of a kind cluster runs, from Debian
# packages and Go modules alone. Needs root (mmdebstrap), Go and Docker; `make deps` brings them.
#
# It goes in stages. Each keeps its result in the cache under the hash of its inputs, so a change to the
# entrypoint does not build Kubernetes again, and an image that is there already is left alone.
set -euo pipefail
umask 022
cd "$(dirname "$0")"
# shellcheck source=/dev/null
. ./versions.env

cache=${XDG_CACHE_HOME:-$HOME/.cache}/wirelab/node-image
label=dev.wirelab.inputs
components=(kubernetes containerd etcd coredns cni pause)

say() { echo "node image: $*"; }
die() { echo "node image: $*" >&2; exit 1; }

main() {
	check_versions
	name_stages
	if up_to_date; then
		return
	fi
	check_machine
	lock_cache
	if up_to_date; then
		return
	fi
	trap 'stop_containerd; rm -rf "$cache"/*.part' EXIT
	trap 'exit 1' INT TERM HUP
	rm -rf "$cache"/*.part
	local component
	stage "$rootfs" "Debian $DEBIAN_SUITE" ./rootfs.sh
	for component in "${components[@]}"; do
		stage "${binaries[$component]}" "$component" ./binaries.sh "$component"
	done
	stage "$controlplane" "control-plane images" ./controlplane.sh "$rootfs" "${binaries[@]}"
	import_image
	forget
}

# forget keeps of each stage the three results that were used last: a person goes back and forth between
# two versions, and CI has one more.
forget() {
	local name
	for name in rootfs "${components[@]}" controlplane; do
		find "$cache" -maxdepth 1 -name "$name-*" -printf '%T@ %p\0' | sort -z -rn | tail -z -n +4 |
			cut -z -d' ' -f2- | xargs -0 --no-run-if-empty rm -rf
	done
}

up_to_date() {
	[ "$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$NODE_IMAGE" 2>/dev/null)" = "$image_key" ] &&
		say "$NODE_IMAGE is up to date"
}

lock_cache() {
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock -n 9 && return
	say "waiting for another build to end"
	flock -w 1800 9 || die "another build has held $cache/lock for half an hour"
}

check_machine() {
	[ "$(id -u)" = 0 ] || die "making a Debian file system takes root: run this as root"
	local tool
	for tool in go mmdebstrap docker; do
		command -v "$tool" >/dev/null || die "$tool is missing: run make deps first"
	done
	docker version >/dev/null 2>&1 || die "Docker does not answer: run make deps first"
}

# check_versions: the modules under tools/ are of the versions that versions.env promises.
check_versions() {
	local folder module version file
	while read -r folder module version; do
		file=tools/$folder/$(module_file "$folder")
		grep -Eq "^(require )?[[:space:]]*$module $version\b" "$file" ||
			die "versions.env wants $module $version and $file does not: change one of them"
	done <<-END
		kubernetes k8s.io/kubernetes $KUBERNETES_VERSION
		etcd go.etcd.io/etcd/server/v3 $ETCD_VERSION
		coredns github.com/coredns/coredns $COREDNS_VERSION
		containerd github.com/containerd/containerd/v2 $CONTAINERD_VERSION
		cni github.com/containernetworking/plugins $CNI_PLUGINS_VERSION
	END
}

# hash_of WORDS_AND_PATHS...: of the words as they are, and of the names, contents and executable bits of
# the files that a path stands for.
hash_of() {
	local input
	for input; do
		if [ -e "$input" ]; then
			find "$input" -type f -perm /u+x | LC_ALL=C sort
			find "$input" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
		else
			echo "$input"
		fi
	done | sha256sum | cut -c1-20
}

# name_stages says where each stage keeps its result: a folder named after the hash of its inputs. The
# results of a stage are inputs of the next, and are known by their names before they are there.
declare -A binaries
name_stages() {
	local component arch compiler
	arch=$(go env GOARCH)
	compiler=$(go env GOVERSION)
	rootfs=$cache/rootfs-$(hash_of "$arch" "$DEBIAN_SUITE" rootfs.sh)
	for component in "${components[@]}"; do
		# shellcheck disable=SC2046 # one word a file
		binaries[$component]=$cache/$component-$(hash_of "$arch" "$compiler" binaries.sh $(sources "$component"))
	done
	controlplane=$cache/controlplane-$(hash_of "${rootfs##*/}" "${binaries[*]##*/}" controlplane.sh)
	image_key=$(hash_of "${controlplane##*/}" "$NODE_IMAGE" build.sh rootfs)
}

# sources COMPONENT: the files it is built of. The module files of another version of Kubernetes are not among them.
sources() {
	local file
	if [ -d "$1" ]; then
		echo "$1"
		return
	fi
	file=tools/$1/$(module_file "$1")
	echo "$file" "${file%.mod}.sum"
	find "tools/$1" -name '*.go' | LC_ALL=C sort
}

# stage DIR WHAT COMMAND...: runs COMMAND to fill DIR unless an earlier run has. An interrupted one
# leaves nothing under that name.
stage() {
	local dir=$1 what=$2 begin=$SECONDS log=$cache/log
	shift 2
	if [ ! -d "$dir" ]; then
		say "building $what"
		mkdir "$dir.part"
		if ! "$@" "$dir.part" >"$log" 2>&1; then
			tail -n 20 "$log" >&2
			die "could not build $what: $log has all of its output"
		fi
		mv "$dir.part" "$dir"
		say "built $what in $((SECONDS - begin)) s"
	fi
	touch "$dir"
}

# import_image puts the parts together in one folder and hands it to Docker.
import_image() {
	local begin=$SECONDS tree=$cache/tree.part
	say "putting $NODE_IMAGE together"
	mkdir "$tree"
	tar -C "$tree" -xf "$rootfs/rootfs.tar"
	install_files "$tree"
	load_images "$tree"
	load_into_docker "$tree"
	say "$NODE_IMAGE is ready, put together in $((SECONDS - begin)) s"
}

# load_into_docker makes the tree one layer of an archive as `docker save` writes them. `docker import`
# would be shorter, but knows no stop signal.
load_into_docker() {
	local archive=$cache/archive.part layer
	mkdir "$archive"
	tar -C "$1" --numeric-owner -cf "$archive/layer.tar" .
	layer=$(sha256sum "$archive/layer.tar" | cut -d' ' -f1)
	cat >"$archive/config.json" <<-END
		{"architecture": "$(go env GOARCH)", "os": "linux", "created": "$(date -u +%FT%TZ)",
		 "config": {"Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"], "StopSignal": "SIGRTMIN+3",
		            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=docker"],
		            "Labels": {"$label": "$image_key"}},
		 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
	END
	echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$NODE_IMAGE\"], \"Layers\": [\"layer.tar\"]}]" >"$archive/manifest.json"
	tar -C "$archive" -cf - config.json manifest.json layer.tar | docker load --quiet >/dev/null ||
		die "Docker did not take the image: see above"
	# What it replaces has lost its name. If nodes still run on it, it stays until the build after they end.
	docker image prune --force --filter "label=$label" >/dev/null
}

install_files() {
	local tree=$1 unit pause
	tar -C rootfs --mode=u=rwX,go=rX --owner=0 --group=0 -cf - . | tar -C "$tree" -xf -
	pause=$(grep '/pause:' "$controlplane/names")
	sed -i "s|@PAUSE_IMAGE@|$pause|" "$tree/etc/containerd/config.toml"
	install -t "$tree/usr/bin" "${binaries[kubernetes]}"/{kubelet,kubeadm,kubectl}
	install -t "$tree/usr/local/bin" "${binaries[containerd]}"/*
	install -D -t "$tree/opt/cni/bin" "${binaries[cni]}"/*
	echo "$KUBERNETES_VERSION" >"$tree/kind/version"
	mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
	for unit in containerd.service kubelet.service; do
		ln -s "../$unit" "$tree/etc/systemd/system/multi-user.target.wants/$unit"
	done
}

# load_images imports the control-plane images into the tree's containerd store, with the containerd
# that was just built. Its database holds no path of this machine.
containerd_pid=
load_images() {
	local tree=$1 run=$cache/run.part deadline=$((SECONDS + 30))
	mkdir "$run"
	# Storing images is all it shall do on this machine.
	cat >"$run/config.toml" <<-END
		version = 3
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
	END
	setpriv --pdeathsig KILL -- "${binaries[containerd]}/containerd" --config "$run/config.toml" --root "$tree/var/lib/containerd" \
		--state "$run" --address "$run/socket" >"$run/log" 2>&1 9>&- &
	containerd_pid=$!
	local ctr=("${binaries[containerd]}/ctr" --address "$run/socket" --namespace k8s.io)
	until "${ctr[@]}" version >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || { tail "$run/log" >&2; die "containerd does not answer"; }
		sleep 0.1
	done
	"${ctr[@]}" images import --all-platforms --no-unpack "$controlplane/images.tar" >"$run/import" 2>&1 ||
		{ cat "$run/import" >&2; die "containerd did not take the control-plane images: see above"; }
	stop_containerd
	rm -rf "$run"
}

stop_containerd() {
	[ -n "$containerd_pid" ] || return 0
	kill "$containerd_pid" 2>/dev/null || true
	wait "$containerd_pid" || true
	containerd_pid=
}

main
