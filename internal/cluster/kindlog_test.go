package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"

	kinderrors "sigs.k8s.io/kind/pkg/errors"
	"sigs.k8s.io/kind/pkg/exec"
)

func TestLoggerKeepsStepsAlone(t *testing.T) {
	var got []string
	l := newLogger(func(s string) { got = append(got, s) })
	l.V(0).Infof("Creating cluster %q ...\n", "x")
	l.V(0).Infof(" • %s  ...\n", "Preparing nodes 📦 📦 ")
	l.V(0).Infof(" ✓ %s\n", "Preparing nodes 📦 📦 ")
	l.V(0).Infof(" • %s  ...\n", "Starting control-plane 🕹️")
	l.V(1).Infof(" • %s  ...\n", "Detail")
	l.Warn("careful")
	if want := []string{"preparing nodes", "starting control-plane"}; !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestExplainGivesTheReason(t *testing.T) {
	failed := func(out string) error {
		return &exec.RunError{Command: []string{"docker", "run"}, Output: []byte(out), Inner: errors.New("exit status 125")}
	}
	tests := map[string]struct {
		err  error
		want string
	}{
		"disk":   {failed("docker: Error response from daemon: mkdir /x: no space left on device.\n"), "no space left on the disk"},
		"port":   {failed("... Bind for 127.0.0.1:6443 failed: port is already allocated.\n"), "cluster.apiServerPort"},
		"nested": {kinderrors.NewAggregate([]error{errors.New("other"), kinderrors.Wrap(failed("first\nthe reason\n\n"), "create")}), "the reason"},
		"advice": {failed("docker: Conflict.\n\nRun 'docker run --help' for more information\n"), "docker run: docker: Conflict."},
		"silent": {failed(""), "docker run"},
		"other":  {errors.New("plain"), "plain"},
		"long":   {failed(strings.Repeat("x", 5000)), "..."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := explain(tt.err).Error()
			if !strings.Contains(got, tt.want) || len(got) > 800 {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
		})
	}
}
