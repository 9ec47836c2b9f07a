package identity

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	pod := map[string]string{
		"app": "web", "app.kubernetes.io/name": "web", "team": "a", "team/cost": "7",
		"pod-template-hash": "6d4b", "pod-template-generation": "3", "controller-revision-hash": "55f",
		"statefulset.kubernetes.io/pod-name": "web-0", "apps.kubernetes.io/pod-index": "0",
		"controller-uid": "u", "job-name": "j", "batch.kubernetes.io/job-name": "j", "batch.kubernetes.io/controller-uid": "u",
		"batch.kubernetes.io/job-completion-index": "2", "topology.kubernetes.io/zone": "z1",
	}
	for _, tc := range []struct{ name, include, exclude, want string }{
		{"all but those by replica", "", "", "app app.kubernetes.io/name team team/cost"},
		{"one is left out", "", "team", "app app.kubernetes.io/name team/cost"},
		{"many are left out", "", "team*", "app app.kubernetes.io/name"},
		{"only some", "app", "", "app"},
		{"only some, many at once", "app*", "", "app app.kubernetes.io/name"},
		{"all at once leave out those by replica", "*", "", "app app.kubernetes.io/name team team/cost"},
		{"one by replica, by its name", "app,job-name", "", "app job-name"},
		{"left out counts more", "app,team", "team", "app"},
		{"none", "", "*", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := func(s string) []string {
				return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
			}
			got := NewFilter(list(tc.include), list(tc.exclude)).Of(pod)
			if keys := strings.Join(slices.Sorted(maps.Keys(got)), " "); keys != tc.want {
				t.Errorf("got %q, want %q", keys, tc.want)
			}
		})
	}
}
