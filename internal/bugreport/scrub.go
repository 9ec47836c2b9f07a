package bugreport

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// LeftOut is in the place of what must not be seen.
const LeftOut = "(left out)"

// leastSecret is how long a known value has to be, in bytes, to be looked for: shorter ones, as "true", are words of any text.
const leastSecret = 8

// shapes are what secrets look like, whoever has written them, and what becomes of them.
var shapes = []struct {
	is *regexp.Regexp
	to string
}{
	// Private keys, also with a prefix on each line, in JSON, and where the end is cut off.
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`), LeftOut},
	{regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/=]{16,}`), LeftOut}, // PEM in base64, as kubeconfigs have it
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`), LeftOut},
	{regexp.MustCompile(`(?i)(token["']?[\s=:]+["']?)[a-z0-9]{6}\.[a-z0-9]{16}\b`), "${1}" + LeftOut}, // what a node joins a cluster with
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`), "$1 " + LeftOut},
	{regexp.MustCompile(`(://)[^/\s:@"']+:[^/\s@"']+@`), "$1" + LeftOut + "@"},
	{regexp.MustCompile(`(?i)\b(client-key-data|[a-z_-]*token|[a-z_-]*passw(?:or)?d|[a-z_-]*secret|[a-z_-]*api[_-]?key)(\\?"?\s*[:=]\s*\\?"?)[^\s"'\\,;&{}()]{6,}`), "${1}${2}" + LeftOut},
	// A kubelet logs the whole container that it cannot start.
	{regexp.MustCompile(`(Command|Args):\[[^\]]*\],`), "$1:[" + LeftOut + "],"},
	{regexp.MustCompile(`Env:\[\]EnvVar\{.*?\},Resources:`), "Env:" + LeftOut + ",Resources:"},
}

// pemBoundary is the first or last line of a block of PEM (RFC 7468).
var pemBoundary = regexp.MustCompile(`^-----(BEGIN|END) [A-Z0-9 ]+-----$`)

// scrubber takes secrets out of text.
type scrubber struct{ known *strings.Replacer }

func newScrubber(secrets []string) scrubber {
	var all []string
	for _, s := range secrets {
		all = append(all, base64.StdEncoding.EncodeToString([]byte(s)))
		for line := range strings.Lines(s) {
			line = strings.TrimSpace(line)
			if pemBoundary.MatchString(line) {
				continue // it is no secret, and without it other private keys would not be found by their shape
			}
			all = append(all, line, base64.StdEncoding.EncodeToString([]byte(line)), inJSON(line))
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < leastSecret })
	// At one place the first that fits is taken.
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	var pairs []string
	for _, s := range slices.Compact(all) {
		pairs = append(pairs, s, LeftOut)
	}
	return scrubber{strings.NewReplacer(pairs...)}
}

// inJSON is a text as it is between the quotes of a JSON string.
func inJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return s
	}
	return strings.Trim(string(b), `"`)
}

func (s scrubber) text(in string) string {
	out := s.known.Replace(in)
	for _, shape := range shapes {
		out = shape.is.ReplaceAllString(out, shape.to)
	}
	return out
}
