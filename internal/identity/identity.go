// Package identity says who is talking: a number for each set of security labels. It knows which labels count
// ([Filter]), which number a set has, and until when ([Numbers]), and how one gets its number ([Allocator]). It knows no
// API server; what it needs of one is an interface.
//
// It imports nothing else of this module.
package identity

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ID is the number of an identity.
type ID uint32

// Reserved numbers, the same in every cluster.
const (
	Unknown       ID = 0 // none has been found yet
	Host          ID = 1 // the node that is asked
	World         ID = 2 // outside the cluster
	Unmanaged     ID = 3 // a container that is no pod of Kubernetes
	Health        ID = 4 // the agents' health endpoints
	Init          ID = 5 // a pod whose labels or number are not known yet
	RemoteNode    ID = 6 // another node
	KubeAPIServer ID = 7
)

// Numbers of pods, the same on all nodes of a cluster.
const (
	FirstPod ID = 256
	LastPod  ID = 65535
)

var reserved = map[ID]string{
	Unknown: "unknown", Host: "host", World: "world", Unmanaged: "unmanaged", Health: "health", Init: "init",
	RemoteNode: "remote-node", KubeAPIServer: "kube-apiserver",
}

// Reserved are the reserved numbers with their names.
func Reserved() map[ID]string {
	all := maps.Clone(reserved)
	delete(all, Unknown)
	return all
}

// String is the name of a reserved number, and else the number.
func (id ID) String() string {
	if name, ok := reserved[id]; ok {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// OfPods says whether id is one of those that sets of labels have.
func (id ID) OfPods() bool { return id >= FirstPod && id <= LastPod }

// Parse reads what [ID.String] writes, and the numbers of reserved ones.
func Parse(s string) (ID, bool) {
	for id, name := range reserved {
		if s == name && id != Unknown {
			return id, true
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return ID(n), err == nil && n != 0
}

// Set is what pods with one identity have in common.
type Set struct {
	Namespace      string
	ServiceAccount string
	Labels         map[string]string // those that count, see [Filter.Of]; may be nil
}

// Key is the same for equal sets only. Names, keys and values hold neither line ends nor "=".
func (s Set) Key() string {
	return strings.Join(append([]string{s.Namespace, s.ServiceAccount}, s.Sorted()...), "\n")
}

// Sorted are the labels as key=value, sorted.
func (s Set) Sorted() []string {
	out := make([]string, 0, len(s.Labels))
	for k, v := range s.Labels {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}
