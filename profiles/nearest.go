package profiles

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// nearest is the candidate that was probably meant by word, or "" when none is near.
// Case, dashes and underscores do not count; swapped letters count as one mistake. Of
// several equally near ones it is the first.
func nearest(word string, candidates []string) string {
	if len(word) > longestWord {
		return ""
	}
	best, bound := "", (len(word)+2)/3
	for _, c := range candidates {
		if d := distance(word, c); d <= bound {
			best, bound = c, d-1
		}
	}
	return best
}

// longestWord is longer than any key's whole path with a slip or two.
const longestWord = 80

func distance(a, b string) int {
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

// nearestKey is the full path that was probably meant by the unknown name below n,
// found at path: first one of n's own keys, then a key of that name anywhere.
func (n *node) nearestKey(path, name string) string {
	own := make([]string, len(n.below))
	for i, c := range n.below {
		own[i] = c.name
	}
	if found := nearest(name, own); found != "" {
		return strings.TrimSuffix(path, name) + found
	}
	last := name[strings.LastIndex(name, ".")+1:]
	var names, paths []string
	n.root().walk(func(c *node) {
		names = append(names, c.name)
		paths = append(paths, c.key)
	})
	if found := nearest(last, names); found != "" {
		return paths[slices.Index(names, found)]
	}
	return ""
}

func (n *node) root() *node {
	for n.parent != nil {
		n = n.parent
	}
	return n
}

// unknown describes the unknown name below n as a problem at path.
func (n *node) unknown(path, name string) *Problem {
	p := &Problem{Key: path, Message: "unknown key", Nearest: n.nearestKey(path, name)}
	if p.Nearest == "" {
		p.Message += "; known here: " + n.names()
	}
	return p
}

// names lists the keys directly below n.
func (n *node) names() string {
	all := make([]string, len(n.below))
	for i, c := range n.below {
		all[i] = c.name
	}
	return strings.Join(all, ", ")
}
