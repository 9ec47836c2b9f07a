package settings

import (
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/nearest"
)

// NearestBelow is the full path that was probably meant by the unknown name below k,
// found at path: first one of k's own keys, then a key of that name anywhere.
func (k *Key) NearestBelow(path, name string) string {
	if found := nearest.Of(name, k.names()); found != "" {
		return strings.TrimSuffix(path, name) + found
	}
	last := name[strings.LastIndex(name, ".")+1:]
	var names, paths []string
	k.Root().Walk(func(c *Key) {
		names = append(names, c.Name)
		paths = append(paths, c.Path)
	})
	if found := nearest.Of(last, names); found != "" {
		return paths[slices.Index(names, found)]
	}
	return ""
}

// NearestSetting is the settable key that was probably meant, by its whole path or by its last part; empty when none is near.
func (k *Key) NearestSetting(path string) string {
	var paths, names []string
	for _, s := range k.Settings() {
		if s.Settable() {
			paths, names = append(paths, s.Path), append(names, s.Name)
		}
	}
	if found := nearest.Of(path, paths); found != "" {
		return found
	}
	if found := nearest.Of(path[strings.LastIndex(path, ".")+1:], names); found != "" {
		return paths[slices.Index(names, found)]
	}
	return ""
}
