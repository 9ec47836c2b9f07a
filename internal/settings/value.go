package settings

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/nearest"
)

// Complaint is what is wrong with a value, without saying where. Nearest is the word that was probably meant; may be
// empty.
type Complaint struct{ Message, Nearest string }

func complain(format string, args ...any) *Complaint {
	return &Complaint{Message: fmt.Sprintf(format, args...)}
}

// Scalar turns the text of one value into what k's field holds, and checks the range
// and the allowed words of the table.
func (k *Key) Scalar(raw string) (any, *Complaint) {
	if canonical, ok := k.Words[raw]; ok {
		raw = canonical
	}
	if reason, ok := k.Refused[raw]; ok {
		return nil, complain("%q %s", raw, reason)
	}
	value, bad := k.Convert(raw)
	if bad != nil && len(k.Words) > 0 {
		return nil, complain("%q is not offered; allowed: %s", raw, k.Choices())
	}
	if bad != nil {
		return nil, bad
	}
	if bad := k.inRange(value); bad != nil {
		return nil, bad
	}
	if len(k.Allowed) > 0 && !slices.Contains(k.Allowed, raw) {
		bad := complain("%s is not offered; allowed: %s", strconv.Quote(raw), k.Choices())
		if near := nearest.Of(raw, k.Allowed); near != "" && k.Shape == Text {
			bad.Nearest = near
		}
		return nil, bad
	}
	return value, nil
}

// Convert turns the text of one value into what k's field holds, whatever the table allows.
func (k *Key) Convert(raw string) (any, *Complaint) {
	switch k.Shape {
	case Text:
		if strings.ContainsFunc(raw, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			return nil, complain("%q holds characters that cannot be printed; write it on one line", raw)
		}
		return raw, nil
	case Whole:
		number, err := strconv.Atoi(raw)
		if err != nil {
			return nil, complain("%q is not a whole number", raw)
		}
		return number, nil
	case Toggle:
		switch raw {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, complain("%q is neither true nor false", raw)
	case Period:
		d, err := time.ParseDuration(raw)
		if err != nil {
			return nil, complain("%q is not a duration such as 90s or 2m", raw)
		}
		return Duration{d}, nil
	case Prefix:
		return parsePrefix(raw)
	default:
		return nil, complain("%q stands where a %s belongs", raw, k.Word())
	}
}

// parsePrefix reads an IPv4 CIDR; the empty text is the zero Prefix.
func parsePrefix(raw string) (any, *Complaint) {
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
func (k *Key) inRange(value any) *Complaint {
	if k.Max == 0 {
		return nil
	}
	switch v := value.(type) {
	case int:
		if v >= k.Min && v <= k.Max || v == 0 && k.Zero {
			return nil
		}
		return complain("%d is out of range; allowed: %s", v, k.Choices())
	case Duration:
		if v.Duration < seconds(k.Min).Duration || v.Duration > seconds(k.Max).Duration {
			return complain("%s is out of range; allowed: %s", v, k.Choices())
		}
	}
	return nil
}

func seconds(n int) Duration { return Duration{time.Duration(n) * time.Second} }

// Choices says what k takes its value from; empty when the table sets no bounds.
func (k *Key) Choices() string {
	var parts []string
	for _, word := range k.Allowed {
		parts = append(parts, cmp.Or(word, `""`))
	}
	parts = append(parts, slices.Sorted(maps.Keys(k.Words))...)
	if k.Max != 0 {
		switch {
		case k.Shape == Period:
			parts = append(parts, fmt.Sprintf("%s to %s", seconds(k.Min), seconds(k.Max)))
		case k.Min == k.Max:
			parts = append(parts, strconv.Itoa(k.Min))
		case k.Zero:
			parts = append(parts, "0", fmt.Sprintf("%d to %d", k.Min, k.Max))
		default:
			parts = append(parts, fmt.Sprintf("%d to %d", k.Min, k.Max))
		}
	}
	return strings.Join(parts, ", ")
}

// Decoded turns what YAML has made of a value, in the chart's values or the agent's file, into what k's field holds.
func (k *Key) Decoded(value any) (any, *Complaint) {
	switch v := value.(type) {
	case nil:
		return nil, complain("has no value")
	case []any:
		if k.Shape == TextList {
			list := make([]string, len(v))
			for i, item := range v {
				list[i] = fmt.Sprint(item)
			}
			return list, nil
		}
		return nil, complain("%v stands where a %s belongs", v, k.Word())
	case map[string]any:
		return nil, complain("%v stands where a %s belongs", v, k.Word())
	case float64:
		// Helm writes large numbers as 1e+06.
		if v == math.Trunc(v) {
			return k.Scalar(strconv.FormatFloat(v, 'f', -1, 64))
		}
	}
	return k.Scalar(k.Masked(fmt.Sprint(value)))
}

// Masked is the text of a prefix without bits beyond its length, of which the chart's schema cannot tell whether they are set;
// any other text is as it was.
func (k *Key) Masked(raw string) string {
	if p, err := netip.ParsePrefix(raw); k.Shape == Prefix && err == nil {
		return p.Masked().String()
	}
	return raw
}

// Typed reads a value as it is typed after --set or stands in the environment: lists
// are separated by commas, items of sections written first=second; "[]" is the empty list.
func (k *Key) Typed(raw string) (any, *Complaint) {
	if list := k.Shape == TextList || k.Shape == SectionList; list {
		if bad := k.badList(raw); bad != nil {
			return nil, bad
		}
	}
	switch k.Shape {
	case Section:
		return nil, complain("this is a section; set one of its keys: %s", k.Names())
	case TextList:
		return splitList(raw), nil
	case SectionList:
		return k.pairs(raw)
	default:
		return k.Scalar(raw)
	}
}

// pairs reads a list of sections that have two texts each.
func (k *Key) pairs(raw string) (any, *Complaint) {
	all := reflect.MakeSlice(k.typ, 0, 0)
	for _, item := range splitList(raw) {
		first, second, ok := strings.Cut(item, "=")
		if !ok {
			return nil, complain("%q is not of the form %s, such as %s", item, strings.Join(k.names(), "="), k.Example)
		}
		pair := reflect.New(k.typ.Elem()).Elem()
		pair.Field(0).SetString(first)
		pair.Field(1).SetString(second)
		all = reflect.Append(all, pair)
	}
	return all.Interface(), nil
}

// badList says what is wrong with the outside of a list as it is typed.
func (k *Key) badList(raw string) *Complaint {
	raw = strings.TrimSpace(raw)
	opens, closes := strings.HasPrefix(raw, "["), strings.HasSuffix(raw, "]")
	if opens != closes || strings.HasPrefix(raw, "{") {
		return complain("%q is not how a list is written; separate its items by commas, such as %s", raw, k.sampleList())
	}
	return nil
}

// sampleList is a list of two items of k's, as it is typed.
func (k *Key) sampleList() string {
	if strings.Contains(k.Example, ",") || k.Shape == SectionList {
		return k.Example
	}
	return k.Example + "," + strings.TrimRight(k.Example, "0123456789") + "1"
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

// Written is a value as it is typed after --set.
func Written(value any) string {
	switch v := value.(type) {
	case []string:
		return "[" + strings.Join(v, ",") + "]"
	case interface{ MarshalText() ([]byte, error) }: // prefixes and durations
		raw, err := v.MarshalText()
		if err != nil {
			return fmt.Sprint(value)
		}
		return string(raw)
	}
	list := reflect.ValueOf(value)
	if list.Kind() != reflect.Slice {
		return fmt.Sprint(value)
	}
	items := make([]string, list.Len())
	for i := range items {
		items[i] = list.Index(i).Field(0).String() + "=" + list.Index(i).Field(1).String()
	}
	return "[" + strings.Join(items, ",") + "]"
}
