// Package version names the build.
package version

// Version is the git description of the tree this binary was built from,
// "dev" where the linker was not told.
var Version = "dev"
