#!/usr/bin/env bash
# Regenerates the BPF objects and their Go, and fails if that changes anything:
# what is committed is what the sources say.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in clang-19 llvm-strip-19; do
	if ! command -v "$tool" >/dev/null; then
		echo "$tool is missing, without which the objects cannot be compared: run make deps, on Debian 12 or 13" >&2
		exit 1
	fi
done

sums() { git ls-files -co --exclude-standard -- bpf | sort | xargs sha256sum; }

before=$(sums)
make --no-print-directory generate
if ! changed=$(diff <(printf '%s\n' "$before") <(sums)); then
	printf 'generated files differ from their sources; run "make generate" and commit:\n%s\n' "$changed" >&2
	exit 1
fi
echo "generated files are what their sources say"
