#!/usr/bin/env bash
# build.sh FILE: the field's own client of the flow API, unmodified, as it is tried against lab flows --serve. It takes some
# minutes once, and is then kept.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wirelab/flow-client
key=$(cat go.mod go.sum <(go version) | sha256sum | cut -c 1-16)
if [ ! -x "$cache/$key" ]; then
  mkdir -p "$cache"
  part=$(mktemp "$cache/.part.XXXXXX")
  trap 'rm -f "$part"' EXIT
  CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$part" github.com/cilium/cilium/hubble
  find "$cache" -type f ! -path "$part" -delete # those of other versions
  mv "$part" "$cache/$key"
fi
install -D -m 0755 "$cache/$key" "$out"
