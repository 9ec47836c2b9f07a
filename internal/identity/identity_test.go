package identity

import "testing"

func TestSetsHaveKeysOfTheirOwn(t *testing.T) {
	one := Set{Namespace: "a", ServiceAccount: "b", Labels: map[string]string{"x": "1", "y": "2"}}
	same := Set{Namespace: "a", ServiceAccount: "b", Labels: map[string]string{"y": "2", "x": "1"}}
	if one.Key() != same.Key() {
		t.Error("the order of labels counts")
	}
	for _, other := range []Set{
		{Namespace: "b", ServiceAccount: "b", Labels: one.Labels},
		{Namespace: "a", ServiceAccount: "c", Labels: one.Labels},
		{Namespace: "a", ServiceAccount: "b", Labels: map[string]string{"x": "1"}},
		{Namespace: "a", ServiceAccount: "b", Labels: map[string]string{"x": "2", "y": "1"}},
		{Namespace: "a", ServiceAccount: "b"},
		{Namespace: "a", Labels: map[string]string{"x": "1", "y": "2"}},
	} {
		if other.Key() == one.Key() {
			t.Errorf("%+v has the key of %+v", other, one)
		}
	}
}

func TestNamesOfNumbers(t *testing.T) {
	for id, name := range map[ID]string{Host: "host", World: "world", Health: "health", RemoteNode: "remote-node", KubeAPIServer: "kube-apiserver", 256: "256", 12345: "12345"} {
		if got := id.String(); got != name {
			t.Errorf("%d is called %s, want %s", uint32(id), got, name)
		}
		if got, ok := Parse(name); !ok || got != id {
			t.Errorf("%s is read as %d, %v", name, uint32(got), ok)
		}
	}
	if got, ok := Parse("2"); !ok || got != World {
		t.Errorf("2 is read as %v, %v", got, ok)
	}
	for _, bad := range []string{"", "0", "-1", "web", "99999999999"} {
		if got, ok := Parse(bad); ok {
			t.Errorf("%q is read as %d", bad, uint32(got))
		}
	}
	if len(Reserved()) != 7 {
		t.Errorf("reserved are %v", Reserved())
	}
}
