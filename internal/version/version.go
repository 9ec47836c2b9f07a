// Package version names the build.
package version

// What the linker is told of the tree that this binary was built from.
var (
	// Version is that of the release, or the git description of the tree; "dev" where the linker was not told.
	Version = "dev"
	// Commit is the hash of the commit, with what was changed after it not counted; empty where the linker was not told.
	Commit = ""
)
