// Package nearest knows what was probably meant by a word that is none.
package nearest

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Of is the candidate that was probably meant by word, or "" when none is near.
// Case, dashes and underscores do not count; swapped letters count as one mistake. Of
// several equally near ones it is the first.
func Of(word string, candidates []string) string {
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

// Distance is how many slips there are between a and b, as [Of] counts them.
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
