#!/usr/bin/env bash
# Makes a cluster of two nodes with kubeadm, in containers and without kind, and takes lab install and lab uninstall through it:
# installed and verified, then nodes as they were. It takes two to three minutes. usage: hack/install-on-kubeadm.sh [PROFILE]
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-ebpf}
name=wirelab-kubeadm
# shellcheck source=/dev/null
. images/node/versions.env
image=$NODE_IMAGE
socket=unix:///run/containerd/containerd.sock
dir=$(mktemp -d)
nodes=("$name-control-plane" "$name-worker")

clean() {
	docker rm -fv "${nodes[@]}" >/dev/null 2>&1 || true
	docker network rm "$name" >/dev/null 2>&1 || true
	rm -rf "$dir"
}
trap clean EXIT

# What a network could leave on nodes, a line each. The kernel makes *.debug in each bpffs.
# shellcheck disable=SC2016 # the node's shell is to expand it
found='{
ip -o link | sed -E "s/^[0-9]+: ([^:]+):.*/link \1/"
bpftool net | grep -E "\(|lab_" | sed "s/^/program /"
find /sys/fs/bpf /etc/cni /opt/cni/bin -not -type d -not -name "*.debug"
ls -d /run/wirelab 2>/dev/null
iptables-save | grep "^-" | grep -v KUBE- | sed "s/^/rule of iptables /"
ip -4 route show table all | sed "s/^/route /"
ip -4 rule | sed "s/^/rule /"
sysctl -a -r "^net\.ipv4\.(conf\.(all|default|eth0)|ip_)" 2>/dev/null
} | sort'
look() { for n in "${nodes[@]}"; do docker exec "$n" bash -c "$found" | sed "s/^/$n: /"; done; }

docker network create "$name" >/dev/null
for n in "${nodes[@]}"; do
	docker run -d --privileged --name "$n" --hostname "$n" --network "$name" --cgroupns=private \
		--security-opt seccomp=unconfined --security-opt apparmor=unconfined \
		--tmpfs /tmp --tmpfs /run --volume /var --volume /lib/modules:/lib/modules:ro \
		--label "io.x-k8s.kind.cluster=$name" --label "io.x-k8s.kind.role=${n#"$name-"}" "$image" >/dev/null
done
for n in "${nodes[@]}"; do
	timeout 60 bash -c "until docker exec $n ctr version >/dev/null 2>&1; do sleep 0.5; done"
done

# The kubelet's settings are those that kind gives, for nodes that share the machine's disk and swap.
docker exec -i "${nodes[0]}" tee /kubeadm.conf >/dev/null <<Y
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration: {criSocket: $socket}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: $KUBERNETES_VERSION
networking: {podSubnet: 10.244.0.0/16}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
cgroupRoot: /kubelet
failSwapOn: false
failCgroupV1: false
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
Y
skip=()
case $profile in kubeproxy) ;; *) skip=(--skip-phases=addon/kube-proxy) ;; esac
docker exec "${nodes[0]}" kubeadm init --config /kubeadm.conf --ignore-preflight-errors=all "${skip[@]}" >"$dir/init" 2>&1 || { cat "$dir/init"; exit 1; }
read -ra join < <(docker exec "${nodes[0]}" kubeadm token create --print-join-command)
docker exec "${nodes[1]}" "${join[@]}" --cri-socket "$socket" --ignore-preflight-errors=all >"$dir/join" 2>&1 || { cat "$dir/join"; exit 1; }
docker exec "${nodes[0]}" cat /etc/kubernetes/admin.conf >"$dir/kubeconfig"

bin/lab install "$profile" --images "$dir/images" >/dev/null
for n in "${nodes[@]}"; do
	for f in "$dir"/images/*.tar; do docker exec -i "$n" ctr -n k8s.io images import --no-unpack - <"$f" >/dev/null 2>&1; done
done
on=(--context kubernetes-admin@kubernetes --kubeconfig "$dir/kubeconfig")
look >"$dir/before"
bin/lab install "$profile" "${on[@]}" | tee "$dir/result"
grep -q " and verified" "$dir/result" || { echo "it is not verified"; exit 1; }
look >"$dir/during"
if diff -q "$dir/before" "$dir/during" >/dev/null; then echo "nodes with the network are as before: this does not see what it should"; exit 1; fi
bin/lab uninstall "${on[@]}"
look >"$dir/after"
diff "$dir/before" "$dir/after"
echo "nodes are as before"
