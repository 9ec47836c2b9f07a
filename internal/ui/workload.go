package ui

import (
	"regexp"

	"wirelab.dev/wirelab/internal/api"
)

// Kinds of a group.
const (
	kindPods    = "pods"    // of one workload
	kindNodes   = "nodes"   // what nodes themselves send and take
	kindHealth  = "health"  // the agents' own endpoints, which probe each other all the time
	kindService = "service" // a Service's own address
	kindOutside = "outside" // everything out of the cluster
	kindUnknown = "unknown" // addresses that nobody knows, and pods without a name
)

// groupKey names a group.
type groupKey struct{ Kind, Namespace, Name string }

// suffixes are what controllers append to a workload's name, longest first. Kubernetes takes the letters of random parts from a
// set without vowels, so that a name of words is not mistaken for one.
var suffixes = []*regexp.Regexp{
	regexp.MustCompile(`^(.+)-[bcdf-hj-np-tv-xz2456789]{6,10}-[bcdf-hj-np-tv-xz2456789]{5}$`), // a Deployment's
	regexp.MustCompile(`^(.+)-[bcdf-hj-np-tv-xz2456789]{5}$`),                                 // a DaemonSet's, a Job's
	regexp.MustCompile(`^(.+)-[0-9]{1,5}$`),                                                   // a StatefulSet's
}

// workloadOf is the name of what a pod is one of, as its own name tells.
func workloadOf(pod string) string {
	for _, s := range suffixes {
		if m := s.FindStringSubmatch(pod); m != nil {
			return m[1]
		}
	}
	return pod
}

// groupOf is the group that an end of a flow is in, where it is no Service's address.
func groupOf(e *api.FlowEnd) groupKey {
	switch {
	case e.Pod != "":
		return groupKey{kindPods, e.Namespace, workloadOf(e.Pod)}
	case e.Name == "host" || e.Name == "remote-node":
		return groupKey{Kind: kindNodes, Name: "nodes"}
	case e.Name == "kube-apiserver":
		return groupKey{Kind: kindNodes, Name: "kube-apiserver"}
	case e.Name == "health":
		return groupKey{Kind: kindHealth, Name: e.Name}
	case e.Name == "world":
		return groupKey{Kind: kindOutside, Name: "world"}
	case e.Name != "":
		return groupKey{Kind: kindUnknown, Name: e.Name}
	}
	return groupKey{Kind: kindUnknown, Name: "unknown"}
}
