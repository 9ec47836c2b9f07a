#!/usr/bin/env bash
# Fills vendor/ with the libraries of the page, as npm has them and package-lock.json names them, with their licences, and
# writes vendor/list.json, which says of each file where it is from and its SHA-256. Needs npm and the network; who builds
# lab needs neither. @dagrejs/dagre is there for its licence, and that of what it
# is made of: cytoscape-dagre has it built in.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json package-lock.json "$work"
npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund --silent
rm -rf vendor
mkdir vendor
exec 3>vendor/list.json
separator='['
locked() { # PACKAGE KEY
	node -p "require('./package-lock.json').packages['node_modules/$1'].$2"
}
take() { # PACKAGE FILE AS
	install -m 644 "$work/node_modules/$1/$2" "vendor/$3"
	printf '%s\n  {"file": "%s", "package": "%s", "version": "%s", "integrity": "%s", "path": "%s", "sha256": "%s"}' \
		"$separator" "$3" "$1" "$(locked "$1" version)" "$(locked "$1" integrity)" "$2" "$(sha256sum "vendor/$3" | cut -d ' ' -f 1)" >&3
	separator=,
}
take cytoscape dist/cytoscape.min.js cytoscape.min.js
take cytoscape LICENSE cytoscape.LICENSE.txt
take cytoscape-dagre dist/cytoscape-dagre.min.js cytoscape-dagre.min.js
take cytoscape-dagre LICENSE cytoscape-dagre.LICENSE.txt
take @dagrejs/dagre LICENSE dagre.LICENSE.txt
take @dagrejs/graphlib LICENSE graphlib.LICENSE.txt
printf '\n]\n' >&3
