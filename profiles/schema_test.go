package profiles

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/settings"
)

// TestTableIsComplete holds the table against the Profile type, both ways.
func TestTableIsComplete(t *testing.T) {
	keys := map[string]bool{"": true}
	newSchema().Walk(func(n *settings.Key) { keys[n.Path] = true }) // panics when a field has no row
	seen := map[string]bool{}
	for _, r := range table() {
		if !keys[r.Path] {
			t.Errorf("row %q has no field in Profile", r.Path)
		}
		if seen[strings.ToLower(r.Path)] {
			t.Errorf("row %q is there twice, or differs from another by case alone", r.Path)
		}
		seen[strings.ToLower(r.Path)] = true
		if !strings.HasSuffix(r.Text, ".") || len(r.Text) < 15 {
			t.Errorf("row %q: %q is not a sentence", r.Path, r.Text)
		}
	}
}

func TestTableFollowsTheFile(t *testing.T) {
	var order []string
	newSchema().Walk(func(n *settings.Key) { order = append(order, n.Path) })
	for i, r := range table()[1:] {
		if order[i] != r.Path {
			t.Fatalf("row %d is %q, the field in its place is %q", i, r.Path, order[i])
		}
	}
}

func TestTagsAgree(t *testing.T) {
	var check func(reflect.Type)
	check = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Tag.Get("json") != f.Tag.Get("yaml") || f.Tag.Get("json") == "" {
				t.Errorf("%s.%s: json %q, yaml %q", typ, f.Name, f.Tag.Get("json"), f.Tag.Get("yaml"))
			}
			switch typ := f.Type; {
			case typ == reflect.TypeFor[settings.Duration](), typ == reflect.TypeFor[netip.Prefix]():
			case typ.Kind() == reflect.Struct:
				check(typ)
			case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
				check(typ.Elem())
			}
		}
	}
	check(reflect.TypeFor[Profile]())
}

func TestDefaultsAndSamplesAreAllowed(t *testing.T) {
	env := map[string]string{}
	newSchema().Walk(func(n *settings.Key) {
		if n.Shape == settings.Section {
			return
		}
		if _, bad := n.Typed(n.Default); bad != nil && !n.Required {
			t.Errorf("%s: the default %q is refused: %s", n.Path, n.Default, bad.Message)
		}
		if _, bad := n.Typed(n.Sample()); bad != nil {
			t.Errorf("%s: the sample %q is refused: %s", n.Path, n.Sample(), bad.Message)
		}
		for word := range n.Words {
			if _, bad := n.Typed(word); bad != nil {
				t.Errorf("%s: the older word %q is refused: %s", n.Path, word, bad.Message)
			}
		}
		if other, taken := env[n.EnvName()]; taken {
			t.Errorf("%s and %s are both %s", n.Path, other, n.EnvName())
		}
		env[n.EnvName()] = n.Path
	})
}
