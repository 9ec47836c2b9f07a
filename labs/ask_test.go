package labs

import (
	"errors"
	"testing"

	"wirelab.dev/wirelab/internal/cluster"
)

func TestNodesFailed(t *testing.T) {
	nodes := []cluster.Node{{Name: "a-worker"}, {Name: "a-worker2"}}
	no, other := errors.New("no Services here"), errors.New("no agent pod on this node")
	for _, tt := range []struct {
		name     string
		failures []error
		want     string
	}{
		{"one", []error{nil, no}, "node a-worker2: no Services here"},
		{"each with its own", []error{other, no}, "node a-worker: no agent pod on this node\nnode a-worker2: no Services here"},
		{"all with the same", []error{no, errors.New(no.Error())}, "no Services here"},
	} {
		if err := nodesFailed(nodes, tt.failures); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if err := nodesFailed(nodes, []error{nil, nil}); err != nil {
		t.Errorf("none failed: %v", err)
	}
}
