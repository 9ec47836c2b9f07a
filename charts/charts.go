// Package charts carries wirelab's Helm chart.
package charts

import "embed"

// FS holds the chart in the directory wirelab. The all: keeps _helpers.tpl,
// which embed would leave out for its underscore.
//
//go:embed all:wirelab
var FS embed.FS

// Wirelab is the name of the chart and its directory in FS.
const Wirelab = "wirelab"
