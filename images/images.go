// Package images carries the programs that lab installs on nodes. They are packed into payload/ before lab is
// built; a lab built without them still runs every command that needs none.
package images

import "embed"

// Payload holds payload/, in which are wirelab-agent, wirelab-operator, wirelab-relay, wirelab-cni, nettool and demo-tools.tar, each
// compressed by images/pack, or nothing but a .gitignore when lab was built without them.
//
//go:embed all:payload
var Payload embed.FS
