package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	kinderrors "sigs.k8s.io/kind/pkg/errors"
)

// late is what kind returns, as Create wraps it.
var late = explain(kinderrors.NewAggregate([]error{kinderrors.Errorf("could not find a log line that matches %q", "Reached target .*Multi-User System.*|detected cgroup v1")}))

func TestNodesThatAreLateBootAgain(t *testing.T) {
	other := errors.New("docker run: no such image")
	for name, tc := range map[string]struct {
		creates []error
		ended   []string
		remove  error
		creat   int
		want    string // in the error; empty for none
		is      error
	}{
		"in time":          {creates: []error{nil}, creat: 1},
		"late once":        {creates: []error{late, nil}, creat: 2},
		"late twice":       {creates: []error{late, late}, creat: 2, want: "the machine is too busy to boot a node in time", is: ErrTooBusy},
		"another error":    {creates: []error{other}, creat: 1, want: "no such image", is: other},
		"late, then other": {creates: []error{late, other}, creat: 2, want: "no such image", is: other},
		"a node that ends": {creates: []error{late}, ended: []string{"x-worker"}, creat: 1, want: "x-worker ended while booting"},
		"no removal":       {creates: []error{late}, remove: other, creat: 1, want: "no such image", is: other},
	} {
		t.Run(name, func(t *testing.T) {
			var did, said []string
			n := 0
			err := boot{
				create: func(context.Context) error { n++; did = append(did, "create"); return tc.creates[n-1] },
				remove: func(context.Context) error { did = append(did, "remove"); return tc.remove },
				ended:  func(context.Context) ([]string, error) { return tc.ended, nil },
				say:    func(s string) { said = append(said, s) },
			}.run(t.Context())
			if n != tc.creat || n == 2 && !slices.Equal(did, []string{"create", "remove", "create"}) {
				t.Errorf("did %v", did)
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("the error is %v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "Multi-User") {
				t.Errorf("the error names what kind looked for: %v", err)
			}
			if errors.Is(err, ErrTooBusy) && !strings.Contains(err.Error(), "cluster.workers=1") {
				t.Errorf("there is no way out in %v", err)
			}
			if (len(said) > 0) != (n == 2 || tc.remove != nil) {
				t.Errorf("said %q", said)
			}
		})
	}
}

// TestInterruptedBootIsNotRepeated: who interrupts has waited enough.
func TestInterruptedBootIsNotRepeated(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := boot{create: func(context.Context) error { n++; cancel(); return late }}.run(ctx)
	if n != 1 || err == nil {
		t.Errorf("%d tries, %v", n, err)
	}
}

func TestBootedIsToldOnce(t *testing.T) {
	n := 0
	var said []string
	l := newLogger(afterBoot(func(s string) { said = append(said, s) }, func() { n++ }))
	for _, step := range []string{"Ensuring node image (wirelab/lab-x:node) 🖼️", "Preparing nodes 📦 📦 📦 "} {
		l.V(0).Infof(" • %s  ...\n", step)
		if n != 0 {
			t.Errorf("nodes have booted at %q", step)
		}
	}
	for _, step := range []string{"Writing configuration 📜", "Starting control-plane 🕹️"} {
		l.V(0).Infof(" • %s  ...\n", step)
	}
	if n != 1 || len(said) != 4 {
		t.Errorf("told %d times, said %q", n, said)
	}
}
