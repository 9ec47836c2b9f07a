// Package imports_test proves that rules.yaml finds what it is there to find.
package imports_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "wirelab.dev/wirelab"

// others are modules that are not ours.
var others = []string{"k8s.io/api", "github.com/cilium/cilium", "github.com/cilium/ebpf", "github.com/vishvananda/netlink"}

// nowhere is a package of ours that no rule allows.
const nowhere = module + "/nowhere"

// refused are the arrows that the house does not have: what is in a folder of
// the first column, or in one below it, imports nothing of the second.
var refused = []struct {
	from string
	to   []string
}{
	{"bpf", []string{"datapath", "internal/api", "internal/settings"}},
	{"charts", []string{"profiles", "labs", "internal/api"}},
	{"images", []string{"internal/image", "labs"}},
	{"internal/settings", []string{"profiles", "datapath", "internal/api"}},
	{"internal/screen", []string{"internal/api", "labs", "verify"}},
	{"profiles", []string{"labs", "verify", "datapath", "internal/agent", "internal/api"}},
	{"datapath", []string{"internal/agent", "internal/api/client", "internal/ipam", "profiles", "labs", "verify", "k8s.io/api", "github.com/cilium/cilium"}},
	{"datapath/lb", []string{"datapath", "github.com/cilium/ebpf", "github.com/vishvananda/netlink"}},
	{"internal/agent", []string{"bpf", "profiles", "labs", "verify", "internal/kube", "internal/flowapi", "github.com/cilium/cilium"}},
	{"internal/flowapi", []string{"datapath", "internal/agent", "internal/api/client", "labs"}},
	{"internal/relay", []string{"datapath", "internal/agent", "labs", "github.com/cilium/cilium"}},
	{"internal/gather", []string{"internal/agent", "internal/api/client", "labs"}},
	{"cmd/operator", []string{"internal/relay", "internal/flowapi", "github.com/cilium/cilium"}},
	{"internal/api", []string{"datapath", "internal/agent", "k8s.io/api"}},
	{"internal/ui", []string{"internal/api/client", "internal/gather", "labs", "k8s.io/api"}},
	{"internal/show", []string{"datapath", "internal/agent", "internal/api/client", "k8s.io/api"}},
	{"cmd/agent", []string{"bpf", "datapath", "labs", "profiles", "verify", "internal/flowapi", "github.com/cilium/cilium"}},
	{"cmd/cni", []string{"datapath", "internal/agent", "internal/api/client", "net/http", "k8s.io/api"}},
	{"cmd/lab", []string{"bpf", "datapath", "internal/agent", "bench/testbed", "bench/controlplane", "bench/goals"}},
	{"cmd/nettool", []string{"datapath", "internal/agent", "labs", "k8s.io/api"}},
	{"verify", []string{"bpf", "datapath", "internal/agent", "labs"}},
	{"verify/field", []string{"verify/checks"}},
	{"verify/probe", []string{"verify", "verify/field"}},
	{"labs", []string{"bpf", "datapath", "internal/agent", "bench/testbed", "bench/controlplane", "bench/goals"}},
	{"internal/cluster", []string{"bpf", "datapath", "internal/agent", "labs", "verify"}},
	{"internal/docker", []string{"bpf", "datapath", "internal/agent", "labs", "verify"}},
	{"internal/image", []string{"bpf", "datapath", "internal/agent", "labs", "verify"}},
	{"internal/kube", []string{"bpf", "datapath", "internal/agent", "labs", "verify"}},
	{"internal/release", []string{"bpf", "datapath", "internal/agent", "labs", "verify"}},
	{"bench", []string{"labs", "profiles", "verify"}},
	{"bench/workload", []string{"bench/testbed", "datapath", "internal/agent"}},
	{"bench/testbed", []string{"bench/goals", "internal/agent", "k8s.io/api"}},
	{"bench/controlplane", []string{"bench/goals", "bpf"}},
	{"bench/goals", []string{"bench/lab", "datapath", "internal/agent"}},
	{"bench/lab", []string{"bpf", "datapath", "internal/agent", "bench/testbed", "bench/goals"}},
	{"hack", []string{"datapath", "internal/agent", "labs"}},
	{"e2e", []string{"labs", "verify", "internal/api"}},
}

// allowed are some that it has, so that a rule that refuses everything is found too.
var allowed = []struct{ from, to string }{
	{"profiles", "internal/settings"},
	{"datapath", "bpf"},
	{"datapath", "internal/api"},
	{"internal/agent", "datapath"},
	{"internal/api/client", "net/http"},
	{"cmd/cni", "internal/api"},
	{"internal/show", "internal/screen"},
	{"internal/show", "internal/dissect"},
	{"verify", "internal/screen"},
	{"verify/field", "verify/probe"},
	{"verify/checks", "verify/field"},
	{"labs", "verify"},
	{"labs", "charts"},
	{"hack/release", "internal/image"},
}

// TestRules writes a module with every package of this one, each with a
// sub-package, that imports whatever is named above, and expects the rules to
// find each import that they should, and no other of those named.
func TestRules(t *testing.T) {
	packages := packagesOfOurs(t)
	targets := map[string]bool{"nowhere": true}
	for _, arrow := range refused {
		for _, to := range arrow.to {
			targets[to] = true
		}
	}
	for _, arrow := range allowed {
		targets[arrow.to] = true
	}

	// The importing packages are in a folder of their own, which is the root
	// that the rules are given: so no import is a cycle.
	root := t.TempDir()
	const goVersion = "\n\ngo 1.26.0\n"
	mod := "module " + module + goVersion
	for _, path := range others {
		mod += "\nrequire " + path + " v0.0.0\n\nreplace " + path + " => ./others/" + path + "\n"
		write(t, root, "others/"+path+"/go.mod", "module "+path+goVersion)
		write(t, root, "others/"+path+"/stub.go", "package stub\n")
	}
	write(t, root, "go.mod", mod)
	var body strings.Builder
	body.WriteString("package bad\n")
	for to := range targets {
		fmt.Fprintf(&body, "\nimport _ %q\n", importPath(to))
		if importPath(to) != to {
			write(t, root, to+"/stub.go", "package stub\n")
		}
	}
	var from []string
	for _, p := range packages {
		from = append(from, p, p+"/below/deeper")
	}
	for _, p := range from {
		write(t, root, "house/"+p+"/bad.go", body.String())
	}

	found := check(t, filepath.Join(root, "house"))
	for _, p := range from {
		if !found[p][nowhere] {
			t.Errorf("%s is in no list of rules.yaml", p)
		}
	}
	for _, arrow := range refused {
		within := below(from, arrow.from)
		if len(within) == 0 {
			t.Errorf("there is no package in %s", arrow.from)
		}
		for _, p := range within {
			for _, to := range arrow.to {
				if !found[p][importPath(to)] {
					t.Errorf("%s may import %s", p, to)
				}
			}
		}
	}
	for _, arrow := range allowed {
		if found[arrow.from][importPath(arrow.to)] {
			t.Errorf("%s may not import %s", arrow.from, arrow.to)
		}
	}
}

// TestLinked holds what a program links against the same arrows: what is not
// imported is not linked by way of something else.
func TestLinked(t *testing.T) {
	for _, c := range []struct {
		program string
		without []string
	}{
		{"cmd/lab", []string{module + "/bpf", module + "/datapath", module + "/internal/agent"}},
		{"cmd/agent", []string{"github.com/cilium/cilium", "google.golang.org/grpc"}},
		{"cmd/operator", []string{"github.com/cilium/cilium", "google.golang.org/grpc"}},
		{"cmd/cni", []string{"net/http", "k8s.io", module + "/datapath"}},
		{"cmd/nettool", []string{"k8s.io", module + "/datapath"}},
	} {
		linked := list(t, "-deps", "./"+c.program)
		if !slices.Contains(linked, module+"/internal/version") {
			t.Fatalf("%s does not link the version: %v", c.program, linked)
		}
		for _, without := range c.without {
			if bad := below(linked, without); len(bad) > 0 {
				t.Errorf("%s links %v", c.program, bad)
			}
		}
	}
}

func packagesOfOurs(t *testing.T) []string {
	var all []string
	for _, p := range list(t, "-tags=e2e", "./...") {
		all = append(all, strings.TrimPrefix(p, module+"/"))
	}
	return all
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}

// check returns what check.sh finds below root: for each package the imports
// that are refused.
func check(t *testing.T, root string) map[string]map[string]bool {
	t.Helper()
	out, err := exec.Command("./check.sh", root).CombinedOutput()
	if err == nil {
		t.Fatal("check.sh found nothing")
	}
	line := regexp.MustCompile(`^` + regexp.QuoteMeta(root) + `/(.*)/bad\.go:\d+:\d+: import '(.*)' is not allowed from list`)
	found := map[string]map[string]bool{}
	for l := range strings.Lines(string(out)) {
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("check.sh says %q", l)
		}
		if found[m[1]] == nil {
			found[m[1]] = map[string]bool{}
		}
		found[m[1]][m[2]] = true
	}
	return found
}

func below(packages []string, folder string) []string {
	var within []string
	for _, p := range packages {
		if p == folder || strings.HasPrefix(p, folder+"/") {
			within = append(within, p)
		}
	}
	return within
}

// importPath is a target's: in the tables, those of ours leave the module out.
func importPath(target string) string {
	if target == "net/http" || slices.Contains(others, target) {
		return target
	}
	return module + "/" + target
}

func write(t *testing.T, root, name, body string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}
