#!/usr/bin/env bash
# The formatting of Go and C, vet, staticcheck, clang-tidy, what is exported and not used, the import arrows and the shell
# scripts.
set -euo pipefail
cd "$(dirname "$0")/.."

tool() { go tool -modfile=hack/tools/go.mod "$@"; }

unformatted=$(git ls-files -co --exclude-standard -- '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	printf 'not gofmt-ed:\n%s\n' "$unformatted" >&2
	exit 1
fi
git ls-files -co --exclude-standard -- 'bpf/*.[ch]' | xargs clang-format-19 --dry-run -Werror
# What it finds is on stdout; on stderr how far it is, or why it could not begin.
exec 3>&1
progress=$(clang-tidy-19 --quiet bpf/*.c 2>&1 >&3) || {
	printf '%s\n' "$progress" >&2
	exit 1
}
go mod tidy -diff
go vet ./...
go vet -tags e2e ./e2e/...
go vet -C hack/tools ./...
tool staticcheck ./...
tool staticcheck -tags e2e ./e2e/...
go build -C hack/tools -o ../../bin/unused ./unused
bin/unused ./...
hack/imports/check.sh .
git ls-files -co --exclude-standard -- '*.sh' .ci/run 'images/node/rootfs/usr/local/bin/*' | xargs shellcheck
