package profiles

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// complaint is what is wrong with a value, without saying where.
type complaint struct{ message, nearest string }

func complain(format string, args ...any) *complaint {
	return &complaint{message: fmt.Sprintf(format, args...)}
}

// scalar turns the text of one value into what n's field holds, and checks the range
// and the allowed words of the table.
func (n *node) scalar(raw string) (any, *complaint) {
	if canonical, ok := n.words[raw]; ok {
		raw = canonical
	}
	if reason, ok := n.refused[raw]; ok {
		return nil, complain("%q %s", raw, reason)
	}
	value, bad := n.convert(raw)
	if bad != nil && len(n.words) > 0 {
		return nil, complain("%q is not offered; allowed: %s", raw, n.choices())
	}
	if bad != nil {
		return nil, bad
	}
	if bad := n.inRange(value); bad != nil {
		return nil, bad
	}
	if len(n.allowed) > 0 && !slices.Contains(n.allowed, raw) {
		bad := complain("%s is not offered; allowed: %s", strconv.Quote(raw), n.choices())
		if near := nearest(raw, n.allowed); near != "" && n.shape == text {
			bad.nearest = near
		}
		return nil, bad
	}
	return value, nil
}

func (n *node) convert(raw string) (any, *complaint) {
	switch n.shape {
	case text:
		if strings.ContainsFunc(raw, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			return nil, complain("%q holds characters that cannot be printed; write it on one line", raw)
		}
		return raw, nil
	case whole:
		number, err := strconv.Atoi(raw)
		if err != nil {
			return nil, complain("%q is not a whole number", raw)
		}
		return number, nil
	case toggle:
		switch raw {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, complain("%q is neither true nor false", raw)
	case duration:
		d, err := time.ParseDuration(raw)
		if err != nil {
			return nil, complain("%q is not a duration such as 90s or 2m", raw)
		}
		return Duration{d}, nil
	case prefix:
		return parsePrefix(raw)
	default:
		return nil, complain("%q stands where a %s belongs", raw, n.shape.word())
	}
}

// parsePrefix reads an IPv4 CIDR; the empty text is the zero Prefix.
func parsePrefix(raw string) (any, *complaint) {
	if raw == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(raw)
	switch {
	case err != nil:
		return nil, complain("%q is not an IPv4 CIDR such as 10.244.0.0/16", raw)
	case !p.Addr().Is4():
		return nil, complain("%s is not IPv4, the only family a lab has", raw)
	case p != p.Masked():
		return nil, complain("%s has bits set beyond its length; write %s", raw, p.Masked())
	}
	return p, nil
}

// inRange checks the bounds that the table gives for whole numbers and durations.
func (n *node) inRange(value any) *complaint {
	if n.max == 0 {
		return nil
	}
	switch v := value.(type) {
	case int:
		if v >= n.min && v <= n.max || v == 0 && n.zero {
			return nil
		}
		return complain("%d is out of range; allowed: %s", v, n.choices())
	case Duration:
		if v.Duration < seconds(n.min).Duration || v.Duration > seconds(n.max).Duration {
			return complain("%s is out of range; allowed: %s", v, n.choices())
		}
	}
	return nil
}

func seconds(n int) Duration { return Duration{time.Duration(n) * time.Second} }

// choices says what n takes its value from; empty when the table sets no bounds.
func (n *node) choices() string {
	var parts []string
	for _, word := range n.allowed {
		if word == "" {
			word = `""`
		}
		parts = append(parts, word)
	}
	parts = append(parts, slices.Sorted(maps.Keys(n.words))...)
	if n.max != 0 {
		switch {
		case n.shape == duration:
			parts = append(parts, fmt.Sprintf("%s to %s", seconds(n.min), seconds(n.max)))
		case n.min == n.max:
			parts = append(parts, strconv.Itoa(n.min))
		case n.zero:
			parts = append(parts, "0", fmt.Sprintf("%d to %d", n.min, n.max))
		default:
			parts = append(parts, fmt.Sprintf("%d to %d", n.min, n.max))
		}
	}
	return strings.Join(parts, ", ")
}

// typed reads a value as it is typed after --set or stands in the environment: lists
// are separated by commas, mirrors written host=endpoint; "[]" is the empty list.
func (n *node) typed(raw string) (any, *complaint) {
	if list := n.shape == texts || n.shape == mirrors; list {
		if bad := n.badList(raw); bad != nil {
			return nil, bad
		}
	}
	switch n.shape {
	case section:
		return nil, complain("this is a section; set one of its keys: %s", n.names())
	case texts:
		return splitList(raw), nil
	case mirrors:
		all := []RegistryMirror{}
		for _, item := range splitList(raw) {
			host, endpoint, ok := strings.Cut(item, "=")
			if !ok {
				return nil, complain("%q is not of the form host=endpoint, such as %s", item, n.example)
			}
			all = append(all, RegistryMirror{Host: host, Endpoint: endpoint})
		}
		return all, nil
	default:
		return n.scalar(raw)
	}
}

// badList says what is wrong with the outside of a list as it is typed.
func (n *node) badList(raw string) *complaint {
	raw = strings.TrimSpace(raw)
	opens, closes := strings.HasPrefix(raw, "["), strings.HasSuffix(raw, "]")
	if opens != closes || strings.HasPrefix(raw, "{") {
		return complain("%q is not how a list is written; separate its items by commas, such as %s", raw, n.sampleList())
	}
	return nil
}

// sampleList is a list of two items of n's, as it is typed.
func (n *node) sampleList() string {
	if strings.Contains(n.example, ",") || n.shape == mirrors {
		return n.example
	}
	return n.example + "," + strings.TrimRight(n.example, "0123456789") + "1"
}

func splitList(raw string) []string {
	raw = strings.TrimSpace(raw)
	if inner, ok := strings.CutPrefix(raw, "["); ok && strings.HasSuffix(raw, "]") {
		raw = strings.TrimSuffix(inner, "]")
	}
	items := []string{}
	for item := range strings.SplitSeq(raw, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
