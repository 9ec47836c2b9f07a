// Package docs carries the pages of this folder and their pictures, for lab docs.
package docs

import "embed"

// Files are named by their paths below this folder.
//
//go:embed *.md walkthroughs/*.md pictures/*.svg pictures/*.webp
var Files embed.FS
