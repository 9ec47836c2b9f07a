package identity

import (
	"slices"
	"strings"
)

// perReplica are labels that differ between pods that do the same: by replica, by revision, by the place they run at.
// Those that end in "*" are all that begin so.
var perReplica = []string{
	"pod-template-hash", "pod-template-generation", "controller-revision-hash",
	"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index",
	"controller-uid", "job-name", "batch.kubernetes.io/*",
	"topology.kubernetes.io/*",
}

// Filter says which labels of a pod are part of its identity.
type Filter struct{ include, exclude []string }

// NewFilter makes the filter that the settings labels.include and labels.exclude ask for. Each item is a label's key, or
// the beginning of keys with "*" behind it. Without include all labels count but those that differ by replica, and with
// it only those that it names. One that differs by replica counts only when include has just its key. What exclude names
// never counts.
func NewFilter(include, exclude []string) Filter { return Filter{include: include, exclude: exclude} }

// Of are the labels that count.
func (f Filter) Of(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for key, value := range labels {
		if f.counts(key) {
			out[key] = value
		}
	}
	return out
}

func (f Filter) counts(key string) bool {
	if matchAny(f.exclude, key) {
		return false
	}
	if slices.Contains(f.include, key) {
		return true
	}
	return !matchAny(perReplica, key) && (len(f.include) == 0 || matchAny(f.include, key))
}

func matchAny(patterns []string, key string) bool {
	for _, p := range patterns {
		if begin, many := strings.CutSuffix(p, "*"); p == key || many && strings.HasPrefix(key, begin) {
			return true
		}
	}
	return false
}
