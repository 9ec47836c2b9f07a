package profiles

import (
	"reflect"
	"strings"
	"testing"
)

// TestTableIsComplete holds the table against the Profile type, both ways.
func TestTableIsComplete(t *testing.T) {
	keys := map[string]bool{"": true}
	newSchema().walk(func(n *node) { keys[n.key] = true }) // panics when a field has no row
	seen := map[string]bool{}
	for _, r := range table() {
		if !keys[r.key] {
			t.Errorf("row %q has no field in Profile", r.key)
		}
		if seen[strings.ToLower(r.key)] {
			t.Errorf("row %q is there twice, or differs from another by case alone", r.key)
		}
		seen[strings.ToLower(r.key)] = true
		if !strings.HasSuffix(r.text, ".") || len(r.text) < 15 {
			t.Errorf("row %q: %q is not a sentence", r.key, r.text)
		}
	}
}

func TestTableFollowsTheFile(t *testing.T) {
	var order []string
	newSchema().walk(func(n *node) { order = append(order, n.key) })
	for i, r := range table()[1:] {
		if order[i] != r.key {
			t.Fatalf("row %d is %q, the field in its place is %q", i, r.key, order[i])
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
			switch s := shapeOf(f.Type); s {
			case section:
				check(f.Type)
			case mirrors:
				check(f.Type.Elem())
			}
		}
	}
	check(reflect.TypeFor[Profile]())
}

func TestDefaultsAndSamplesAreAllowed(t *testing.T) {
	env := map[string]string{}
	newSchema().walk(func(n *node) {
		if n.shape == section {
			return
		}
		if _, bad := n.typed(n.def); bad != nil && !n.required {
			t.Errorf("%s: the default %q is refused: %s", n.key, n.def, bad.message)
		}
		if _, bad := n.typed(n.sample()); bad != nil {
			t.Errorf("%s: the sample %q is refused: %s", n.key, n.sample(), bad.message)
		}
		for word := range n.words {
			if _, bad := n.typed(word); bad != nil {
				t.Errorf("%s: the older word %q is refused: %s", n.key, word, bad.message)
			}
		}
		if other, taken := env[n.envName()]; taken {
			t.Errorf("%s and %s are both %s", n.key, other, n.envName())
		}
		env[n.envName()] = n.key
	})
}

func TestNearest(t *testing.T) {
	words := []string{"kubeproxy", "kubeproxy-replacement", "ebpf"}
	for word, want := range map[string]string{
		"kubeprox": "kubeproxy", "kubepoxry": "kubeproxy", "KubeProxy": "kubeproxy", "kubeproxyreplacement": "kubeproxy-replacement",
		"kube-proxy": "kubeproxy", "epbf": "ebpf", "cilium": "", "": "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest(%q) is %q, want %q", word, got, want)
		}
	}
}
