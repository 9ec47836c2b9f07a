package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
)

const mine = `apiVersion: wirelab.dev/v1alpha1
kind: Profile
metadata: {name: mine}
extends: kubeproxy
network: {mtu: 1400}
`

// profileCmd runs lab with args. It returns what went to stdout, the exit status and, when
// that is not 0, what went to stderr as an error.
func profileCmd(t *testing.T, args ...string) (stdout string, code int, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errOut)
	if code != exitFine {
		err = errors.New(strings.TrimSpace(errOut.String()))
	}
	return out.String(), code, err
}

// file writes a profile and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProfileList(t *testing.T) {
	text, code, err := profileCmd(t, "profile", "list")
	if code != exitFine || !strings.Contains(text, "kubeproxy               kubeproxy               kernel routes") {
		t.Errorf("exit %d, %v:\n%s", code, err, text)
	}
	raw, _, err := profileCmd(t, "profile", "list", "-o", "json")
	var all []profiles.Summary
	if err != nil || json.Unmarshal([]byte(raw), &all) != nil || len(all) != 5 || all[2].Name != "kubeproxy" || all[4].Name != "vxlan" {
		t.Errorf("%v:\n%s", err, raw)
	}
}

func TestProfileShowIsAProfile(t *testing.T) {
	path := file(t, mine)
	t.Setenv("WIRELAB_DEMO_PORT", "81")
	for _, format := range []string{"yaml", "json"} {
		printed, code, err := profileCmd(t, "profile", "show", path, "--set", "cluster.workers=3", "-o", format)
		if code != exitFine {
			t.Fatalf("exit %d: %v", code, err)
		}
		p, err := profiles.Parse("printed", []byte(printed), profiles.Options{})
		if err != nil {
			t.Fatalf("what is printed is no profile: %v\n%s", err, printed)
		}
		if p.Cluster.Workers != 3 || p.Network.MTU != 1400 || p.Demo.Port != 81 {
			t.Errorf("%d workers, mtu %d, port %d; want 3, 1400, 81", p.Cluster.Workers, p.Network.MTU, p.Demo.Port)
		}
	}
}

func TestProfileShowWhatItLeadsTo(t *testing.T) {
	path := file(t, mine)
	var kind, values map[string]any
	for args, into := range map[string]*map[string]any{"--kind": &kind, "--values": &values} {
		for _, format := range []string{"yaml", "json"} {
			printed, _, err := profileCmd(t, "profile", "show", path, args, "-o", format)
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal([]byte(printed), into); err != nil {
				t.Fatalf("%v:\n%s", err, printed)
			}
		}
	}
	if kind["name"] != "mine" || kind["apiVersion"] != "kind.x-k8s.io/v1alpha4" {
		t.Errorf("kind config is %v", kind)
	}
	if values["MTU"] != 1400 || values["k8sServiceHost"] != "mine-control-plane" {
		t.Errorf("values are %v", values)
	}
}

func TestProfileValidate(t *testing.T) {
	good, bad := file(t, mine), file(t, mine+"demo: {prot: 1}\nverfy: {}\n")
	out, code, err := profileCmd(t, "profile", "validate", good, bad, "kubeproxy")
	want := good + ": valid\n" +
		bad + ":6: demo.prot: unknown key; did you mean demo.port?\n" +
		bad + ":7: verfy: unknown key; did you mean verify?\n" +
		"kubeproxy: valid\n"
	if diff := cmp.Diff(want, out); diff != "" || code != exitFailed || err.Error() != "lab: 1 of 3 profiles are not valid" {
		t.Errorf("exit %d, %v:\n%s", code, err, diff)
	}
	raw, code, _ := profileCmd(t, "profile", "validate", bad, "-o", "json")
	var verdicts []verdict
	if err := json.Unmarshal([]byte(raw), &verdicts); err != nil || code != exitFailed {
		t.Fatalf("exit %d, %v:\n%s", code, err, raw)
	}
	found := verdicts[0].Problems
	if verdicts[0].Valid || len(found) != 2 || found[0].Line != 6 || found[0].Key != "demo.prot" || found[0].Nearest != "demo.port" {
		t.Errorf("got %s", raw)
	}
	t.Setenv("WIRELAB_NETWORK_MTU", "big")
	if _, code, err := profileCmd(t, "profile", "validate", good); code != exitFine {
		t.Errorf("a file's validity depends on the environment: %v", err)
	}
}

func TestProfileExplain(t *testing.T) {
	out, code, err := profileCmd(t, "profile", "explain", "network.mtu")
	want := `network.mtu
  The MTU of pod interfaces in bytes. 0 takes that of the network device with the node's
  address, or the smallest of network.devices, which is right unless something between
  the nodes carries less. When it changes, pods that come later get the new one.

  type          whole number
  default       0
  allowed       0, 576 to 65535
  environment   WIRELAB_NETWORK_MTU
  flag          --set network.mtu=1400
  while up      stays: pods keep the MTU that they began with
`
	if diff := cmp.Diff(want, out); diff != "" || code != exitFine {
		t.Errorf("exit %d, %v:\n%s", code, err, diff)
	}
	for _, section := range [][]string{nil, {"network"}, {"network.bpf"}} {
		out, _, err := profileCmd(t, append([]string{"profile", "explain"}, section...)...)
		if err != nil || !strings.Contains(out, "network.bpf.monitorAggregation") {
			t.Errorf("explain %v: %v\n%s", section, err, out)
		}
	}
}

func TestProfileDiff(t *testing.T) {
	path := file(t, mine)
	out, code, err := profileCmd(t, "profile", "diff", "kubeproxy", path)
	want := "KEY           kubeproxy   " + path + "\nnetwork.mtu   0           1400\n"
	if diff := cmp.Diff(want, out); diff != "" || code != exitFine {
		t.Errorf("exit %d, %v:\n%s", code, err, diff)
	}
	same, _, err := profileCmd(t, "profile", "diff", path, path)
	if err != nil || !strings.Contains(same, "lead to the same lab") {
		t.Errorf("%v:\n%s", err, same)
	}
	if raw, _, _ := profileCmd(t, "profile", "diff", path, path, "-o", "json"); strings.TrimSpace(raw) != "[]" {
		t.Errorf("no difference is %q, want an empty list", raw)
	}
}

func TestProfileSchema(t *testing.T) {
	out, _, err := profileCmd(t, "profile", "schema")
	if err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, "draft-07") {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestProfileBadUsage(t *testing.T) {
	broken := file(t, mine+"demo: {prot: 1}\n")
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"show"}, "accepts 1 arg"},
		{[]string{"shwo"}, "unknown command"},
		{[]string{"show", "kubeprox"}, "did you mean kubeproxy?"},
		{[]string{"show", "kubeproxy", "--set", "network.mut=1"}, "--set: network.mut: unknown key; did you mean network.mtu?"},
		{[]string{"show", "kubeproxy", "-o", "xml"}, "allowed: yaml, json"},
		{[]string{"show", "kubeproxy", "--kind", "--values"}, "give one of them"},
		{[]string{"show", broken}, "demo.prot: unknown key"},
		{[]string{"validate"}, "requires at least 1 arg"},
		{[]string{"validate", "nowhere.yaml"}, "1 of 1 profiles do not exist"},
		{[]string{"explain", "network.mut"}, "did you mean network.mtu?"},
		{[]string{"explain", "a", "b"}, "accepts at most 1 arg"},
		{[]string{"diff", "kubeproxy", "nowhere"}, "shipped are ebpf, geneve, kubeproxy"},
		{[]string{"diff", "kubeproxy"}, "accepts 2 arg"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, code, err := profileCmd(t, append([]string{"profile"}, tt.args...)...)
			if code != exitUsage || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("exit %d, %v; want %d and %q", code, err, exitUsage, tt.want)
			}
		})
	}
}

func TestProfileCompletion(t *testing.T) {
	tests := []struct {
		args []string
		want []string
	}{
		{[]string{"show", ""}, []string{"kubeproxy\t"}},
		{[]string{"diff", "kubeproxy", ""}, []string{"kubeproxy\t"}},
		{[]string{"explain", "network.m"}, []string{"network.mtu\t"}},
		{[]string{"show", "kubeproxy", "--set", "network.m"}, []string{"network.mtu=\n"}},
		{[]string{"show", "kubeproxy", "-o", ""}, []string{"yaml\n", "json\n"}},
	}
	for _, tt := range tests {
		out, _, err := profileCmd(t, append([]string{cobra.ShellCompRequestCmd, "profile"}, tt.args...)...)
		for _, want := range tt.want {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("completing %q: %v\n%s", tt.args, err, out)
			}
		}
	}
}

func TestProfileHelpHasExamples(t *testing.T) {
	cmd := newProfileCmd()
	for _, c := range cmd.Commands() {
		if c.Example == "" || c.Short == "" {
			t.Errorf("lab profile %s: help without an example", c.Name())
		}
	}
}

func TestExitCode(t *testing.T) {
	_, invalid := profiles.Parse("x", nil, profiles.Options{})
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, exitFine},
		{errors.New("no Docker"), exitFailed},
		{usageError{errors.New("unknown flag")}, exitUsage},
		{invalid, exitUsage},
		{failedError{invalid}, exitFailed},
		{claimError{errors.New("a check failed")}, exitClaim},
		{fmt.Errorf("open: %w", labs.ErrWhich), exitUsage},
		{fmt.Errorf("look: %w", labs.ErrPlace), exitUsage},
		{labs.ErrNotFound, exitFailed}, // gone while something was done with it
		{errors.Join(claimError{errors.New("a check failed")}, errors.New("no report")), exitClaim},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("exitCode(%v) is %d, want %d", tt.err, got, tt.want)
		}
	}
}
