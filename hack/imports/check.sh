#!/usr/bin/env bash
# Holds the imports of every package below a folder against rules.yaml; the
# folder is a module's, or in one, and its packages' paths below it are ours.
set -euo pipefail
root=$(realpath "$1")
cd "$(dirname "$0")"
depguard=$(cd ../.. && go tool -n -modfile=hack/tools/go.mod depguard)

# depguard reads its rules from the folder that it runs in, and compares whole
# paths of files.
rules=$root/bin/imports
mkdir -p "$rules"
sed "s|\$root|$root|g" rules.yaml > "$rules/.depguard.yaml"
cd "$rules"
GOFLAGS=-tags=e2e "$depguard" wirelab.dev/wirelab/...
