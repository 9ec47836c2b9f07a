#!/usr/bin/env bash
# Measures lab up, to verified, against kind create cluster of the same nodes and image, in turn: C11 of docs/performance.md. The bare
# cluster gets a network configuration with the loopback plugin alone, so its nodes get Ready and no pod gets an address: kind cannot do
# with less. It takes a minute and a half a round. usage: hack/up-against-kind.sh [ROUNDS] [PROFILE]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
profile=${2:-kubeproxy}
lab=up-against-kind
bare=$lab-bare
work=$(mktemp -d)
export KUBECONFIG=$work/kubeconfig

clean() {
	bin/lab down "$lab" >/dev/null 2>&1 || true
	"$work/kind" delete cluster --name "$bare" >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap clean EXIT

go build -o "$work/kind" sigs.k8s.io/kind
image=$(bin/lab image "$profile" -o json | jq -r .image)
mode=$(bin/lab profile show "$profile" -o json | jq -r '.cluster.kubeProxyMode')
cat >"$work/kind.yaml" <<Y
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {disableDefaultCNI: true, kubeProxyMode: $mode}
nodes: [{role: control-plane}, {role: worker}, {role: worker}]
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
Y

# timed NAME COMMAND...: runs it and adds its seconds to the file NAME.
timed() {
	local name=$1 begin=$EPOCHREALTIME
	shift
	"$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
	jq -n "$EPOCHREALTIME - $begin" >>"$work/$name"
}

make_bare() {
	"$work/kind" create cluster --name "$bare" --config "$work/kind.yaml" --image "$image"
	local node
	for node in "$bare"-{control-plane,worker,worker2}; do
		docker exec -i "$node" tee /etc/cni/net.d/10-bare.conflist <<<'{"cniVersion": "1.0.0", "name": "bare", "plugins": [{"type": "loopback"}]}'
	done
	kubectl --context "kind-$bare" wait --for=condition=Ready nodes --all --timeout=120s
}

for ((i = 1; i <= rounds; i++)); do
	timed bare make_bare
	"$work/kind" delete cluster --name "$bare" >/dev/null 2>&1
	timed lab bin/lab up "$profile" --name "$lab" --timings "$work/timings.$i.json"
	timed verify bin/lab verify "$lab"
	bin/lab down "$lab" >/dev/null
	echo "round $i: kind $(tail -n 1 "$work/bare") s, lab up $(tail -n 1 "$work/lab") s, lab verify $(tail -n 1 "$work/verify") s"
done
median() { jq -s 'sort | (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2' "$work/$1"; }
echo "medians: lab up / kind $(jq -n "$(median lab) / $(median bare)"), lab verify / kind $(jq -n "$(median verify) / $(median bare)")"
jq -r '.steps[] | "  \(.name): \(.seconds) s"' "$work/timings.$rounds.json"
