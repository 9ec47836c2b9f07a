#!/usr/bin/env bash
# Renews the pictures of the docs: takes passports of a connection to the demo's Service, whose pod is on another node, from labs
# of four profiles, and draws them. The labs are made and taken down again. docs-pictures.sh LAB takes the passport of a lab
# that is up, for the picture of its profile alone. Pictures of the page of lab ui are those that its test sees.
set -euo pipefail
cd "$(dirname "$0")/.."
lab=bin/lab
folder=docs/pictures
fresh=$(mktemp -d)
made=

end() {
	rm -rf "$fresh"
	if [ -n "$made" ]; then
		"$lab" down "$made" >&2
	fi
}
trap end EXIT

# The demo's pods take connections in turn, and not each is on another node than the client.
passport() { # LAB PROFILE
	local file=$fresh/$2.json
	for _ in {1..30}; do
		"$lab" explain --name "$1" cni demo:8080 -o json >"$file"
		if [ "$(grep -o '"node": "[^"]*"' "$file" | sort -u | wc -l)" -gt 1 ]; then
			mv "$file" "$folder/$2.json"
			return
		fi
	done
	echo "docs-pictures: of 30 connections to the Service demo of lab $1 none went to another node" >&2
	return 1
}

if [ $# -gt 0 ]; then
	profile=$("$lab" list | awk -v lab="$1" '$1 == lab { print $2 }')
	if [ -z "$profile" ]; then
		echo "docs-pictures: there is no lab $1" >&2
		exit 1
	fi
	passport "$1" "$profile"
else
	if "$lab" list | grep -q '^docs-pictures '; then
		echo "docs-pictures: there is a lab docs-pictures: lab down docs-pictures takes it away" >&2
		exit 1
	fi
	made=docs-pictures
	for profile in kubeproxy kubeproxy-replacement ebpf vxlan; do
		"$lab" down "$made" >&2
		"$lab" up "$profile" --name "$made" --set cluster.workers=1 --no-verify >&2
		passport "$made" "$profile"
	done
	WIRELAB_TEST_STRICT=1 WIRELAB_TEST_PICTURES=$PWD/$folder go test -count=1 -tags e2e -run '^TestProfiles$/^ebpf$/^ui$' ./e2e >&2
fi
go test -count=1 -run '^TestPictures$' ./labs/passport/draw -update
