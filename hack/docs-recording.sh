#!/usr/bin/env bash
# Renews docs/recording.svg: records a terminal in which a lab is made and looked at, and draws that. The lab is taken down again.
# It needs asciinema, Debian's package.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=ebpf
columns=110
rows=34
speed=3
picture=docs/recording.svg

say() { echo "docs-recording: $*" >&2; }

# What the terminal shows: each command as somebody types it, and then what it prints.
if [ "${1-}" = typed ]; then
	PATH=$PWD/bin:$PATH
	for command in "lab up $profile" "lab explain cni demo:8080" "lab bpf lb list --service default/demo --node worker"; do
		printf '\e[32m$\e[0m '
		for ((i = 0; i < ${#command}; i++)); do
			printf %s "${command:i:1}"
			sleep 0.1
		done
		sleep 1
		echo
		$command
		sleep 6
	done
	exit
fi

if ! command -v asciinema >/dev/null; then
	say "there is no asciinema on this machine: install it"
	exit 1
fi
if bin/lab list | grep -q "^$profile "; then
	say "there is a lab $profile: lab down $profile takes it away"
	exit 1
fi
work=$(mktemp -d)
trap 'bin/lab down "$profile" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
asciinema rec --quiet --cols "$columns" --rows "$rows" -c "hack/docs-recording.sh typed" "$work/cast"
go build -C hack/tools -o "$work/recording" ./recording
"$work/recording" -speed "$speed" -title "a lab is made and looked at, $speed times as fast as it was" "$work/cast" >"$work/svg"
for line in '✓.*'{doctor,cluster,images,release,demo,ready,verify} 'request: SYN' 'answer: SYN ACK' 'NodePort.*default/demo:http'; do
	if ! grep -q "$line" "$work/svg"; then
		say "no line of the picture is like $line"
		exit 1
	fi
done
mv "$work/svg" "$picture"
