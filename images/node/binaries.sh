#!/bin/bash
# Builds the programs of one component from Go modules. Usage: binaries.sh COMPONENT OUT-DIR, where a
# component is a folder under tools/ or "pause".
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=/dev/null
. ./versions.env
component=$1 out=$2
export CGO_ENABLED=0

# build FLAGS... PACKAGE: static, and the same bytes wherever it is built.
build() {
	(cd "tools/$component" && go build -trimpath -buildvcs=false -modfile="$(cd ../.. && module_file "$component")" "$@")
}

# kubernetes_version: what `kubectl version` and the API report. It is linked in twice.
kubernetes_version() {
	local package major_minor=${KUBERNETES_VERSION#v}
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		echo "-X $package.gitVersion=$KUBERNETES_VERSION -X $package.gitTreeState=clean"
		echo "-X $package.gitMajor=${major_minor%%.*} -X $package.gitMinor=$(cut -d. -f2 <<<"$major_minor")"
	done
}

case $component in
kubernetes) build -ldflags "-s -w $(kubernetes_version | tr '\n' ' ')" -o "$out/" tool ;;
containerd)
	build -tags 'no_btrfs no_devmapper no_zfs' -o "$out/" \
		-ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$CONTAINERD_VERSION" tool
	;;
etcd) build -ldflags '-s -w' -o "$out/etcd" go.etcd.io/etcd/server/v3 ;;
coredns) build -ldflags '-s -w' -o "$out/coredns" . ;;
cni)
	build -o "$out/" \
		-ldflags "-s -w -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$CNI_PLUGINS_VERSION" tool
	;;
pause) (cd pause && go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/pause" main.go) ;;
*) echo "binaries.sh: no component $component" >&2 && exit 2 ;;
esac
