package settings

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Nearest is the candidate that was probably meant by word, or "" when none is near.
// Case, dashes and underscores do not count; swapped letters count as one mistake. Of
// several equally near ones it is the first.
func Nearest(word string, candidates []string) string {
	if len(word) > longestWord {
		return ""
	}
	best, bound := "", (len(word)+2)/3
	for _, c := range candidates {
		if d := Distance(word, c); d <= bound {
			best, bound = c, d-1
		}
	}
	return best
}

// longestWord is longer than any key's whole path with a slip or two.
const longestWord = 80

// Distance is how many slips there are between a and b, as [Nearest] counts them.
func Distance(a, b string) int {
	a, b = plain(a), plain(b)
	if a != b && letters(a) == letters(b) {
		return 1
	}
	return levenshtein.Distance(a, b, nil)
}

func plain(s string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

func letters(s string) string {
	r := []rune(s)
	slices.Sort(r)
	return string(r)
}

// NearestBelow is the full path that was probably meant by the unknown name below k,
// found at path: first one of k's own keys, then a key of that name anywhere.
func (k *Key) NearestBelow(path, name string) string {
	if found := Nearest(name, k.names()); found != "" {
		return strings.TrimSuffix(path, name) + found
	}
	last := name[strings.LastIndex(name, ".")+1:]
	var names, paths []string
	k.Root().Walk(func(c *Key) {
		names = append(names, c.Name)
		paths = append(paths, c.Path)
	})
	if found := Nearest(last, names); found != "" {
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
	if found := Nearest(path, paths); found != "" {
		return found
	}
	if found := Nearest(path[strings.LastIndex(path, ".")+1:], names); found != "" {
		return paths[slices.Index(names, found)]
	}
	return ""
}
