// Command wirelab-cni is what the container runtime calls for each pod. It
// speaks the CNI specification on one side and asks the node's agent over a
// unix socket on the other; the agent does the work. Only one thing it does
// itself: without an agent, DEL removes the pod's veth.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	wirelab "wirelab.dev/wirelab/internal/version"
)

func main() {
	// PluginMainFuncs reads the environment and standard input as the
	// specification says, prints errors as JSON and sets the exit status.
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    configured(cmdAdd),
		Del:    configured(cmdDel),
		Check:  configured(cmdCheck),
		GC:     configured(cmdGC),
		Status: configured(cmdStatus),
	}, version.All, "wirelab-cni "+wirelab.Version)
}
