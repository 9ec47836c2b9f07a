#!/usr/bin/env bash
# Regenerates the BPF objects and their Go, and fails if that changes anything:
# what is committed is what the sources say.
set -euo pipefail
cd "$(dirname "$0")/.."

sums() { git ls-files -co --exclude-standard -- bpf | sort | xargs sha256sum; }

before=$(sums)
make --no-print-directory generate
if ! changed=$(diff <(printf '%s\n' "$before") <(sums)); then
	printf 'generated files differ from their sources; run "make generate" and commit:\n%s\n' "$changed" >&2
	exit 1
fi
echo "generated files are what their sources say"
