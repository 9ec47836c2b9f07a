package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/docker/dockertest"
	"wirelab.dev/wirelab/internal/doctor"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/internal/version"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
)

// call runs lab in-process.
func call(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), code
}

// withoutDocker points lab at an engine that is not there.
func withoutDocker(t *testing.T) {
	t.Helper()
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "docker.sock"))
}

func TestEveryCommandHelps(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		// What cobra brings itself is not ours to describe.
		if c.Name() == "completion" || c.Name() == "help" || strings.HasPrefix(c.Name(), "__") {
			return
		}
		if c.Short == "" || (c.Runnable() && c.Example == "") {
			t.Errorf("%s has no short help or no example", c.CommandPath())
		}
		path := append(strings.Fields(c.CommandPath())[1:], "--help")
		if out, _, code := call(t, path...); code != exitFine || !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help: exit %d:\n%s", c.CommandPath(), code, out)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRootCmd())
}

// TestMonitorHelpsWithWhatIsSeen holds its help to what a profile can say about events.
func TestMonitorHelpsWithWhatIsSeen(t *testing.T) {
	out, _, code := call(t, "monitor", "--help")
	for _, word := range []string{"network.bpf.monitorAggregation", "\n  maximum ", "\n  medium ", "\n  none ", "network.debug.verbose"} {
		if code != exitFine || !strings.Contains(out, word) {
			t.Errorf("exit %d, want %q in\n%s", code, word, out)
		}
	}
}

func TestBadUsage(t *testing.T) {
	withoutDocker(t)
	for _, tt := range []struct{ args, say string }{
		{"nonsense", `"nonsense"`},
		{"statsu", "did you mean status?"},
		{"profile shwo", "did you mean show?"},
		{"bpf lb lsit", `"lsit"`},
		{"up", "say which profile: there are ebpf, geneve, kubeproxy"},
		{"down", "say which lab"},
		{"up", "1 arg"},
		{"up a b", "a lab's name goes in --name, as in: lab up a --name b"},
		{"up kubeproxi", "kubeproxi"},
		{"up kubeproxy --nmae x", "nmae"},
		{"up kubeproxy --name Not_A_Name", "Not_A_Name"},
		{"up kubeproxy --set network.mtuu=1400", "network.mtu"},
		{"up kubeproxy -o xml", "text, json"},
		{"down", "1 arg"},
		{"down Not_A_Name", "Not_A_Name"},
		{"load", "say which image"},
		{"load App:1", "App:1 is neither the name of an image nor a file"},
		{"status a b", "one lab"},
		{"report a b", "one lab"},
		{"logs everything", "coredns"},
		{"logs --tail many", "many"},
		{"shell", "give a node or a pod, as in: lab shell worker"},
		{"explain cni", "give who sends and to whom, as in: lab explain cni demo:8080"},
		{"explain cni demo:8080 --timeout 3s", "--timeout is how long --watch waits: add it"},
		{"explain cni demo:8080 --watch --timeout 0s", "--timeout 0s: want a time to wait, as 30s"},
		{"explain cni demo:8080 -- true", "a command is run with --watch alone"},
		{"explain cni demo:8080 --watch --", "no command after --"},
		{"explain cni demo:8080 --watch --name x -- no-such-command", `no command "no-such-command"`},
		{"profile diff kubeproxy", "give two profiles, as in: lab profile diff kubeproxy ./my-lab.yaml"},
		{"profile validate", "as in: lab profile validate my-lab.yaml"},
		{"image save", "as in: lab image save node.tar.zst"},
		{"identity get", "as in: lab identity get"},
		{"shell worker ip route", "lab shell worker -- ip route"},
		{"shell ip route", "if ip is the command, lab shell NODE|POD -- ip route"},
		{"shell -- ip route", "say where before the --: lab shell NODE|POD -- ip route"},
		{"verify --lst", "did you mean --list?"},
		{"verify --only paths/hop-same-node", "did you mean paths/hops-same-node?"},
		{"verify --only pod", "did you mean pods?"},
		{"status -z", "lab status --help lists those there are"},
		{"status --something-else", "lab status --help lists those there are"},
		{"up kubeproxy --nmae x", "did you mean --name?"},
		{"docs question", "did you mean questions?"},
		{"docs nonsense-of-it", "there are architecture, chart"},
		{"docs questions --write x", "--write makes all pages"},
		{"doctor nope", "nope"},
		{"image nope", "nope"},
		{"bpf nope", "nope"},
		{"bpf lb list a b", "one lab"},
		{"bpf lb list a --name b", "which lab: a or, as --name has it, b?"},
		{"status a --name b", "which lab"},
		{"verify a --name b", "which lab"},
		{"bench a --name b", "which lab"},
		{"down a --name b", "which lab"},
		{"install", "say which profile"},
		{"install ebpf", "say which cluster with --context"},
		{"install ebpf --context a --images b", "leave out --context"},
		{"install ebpf --values", "say which cluster with --context"},
		{"uninstall", "say which cluster with --context"},
		{"uninstall a --context b", "unknown command"},
		{"down a b --name a", "1 arg"},
		{"flows a --name b", "which lab"},
		{"bpf lb list --service demo", "namespace/name"},
		{"bpf lb list --address 10.0.0.1", "unknown flag"},
		{"bpf ct list --address demo", "demo"},
		{"up kubeproxy --output-file x", ".xml for JUnit"},
		{"up kubeproxy --no-verify --output-file x.xml", "--no-verify leaves out the checks"},
		{"up kubeproxy --no-verify --budget verify=1s", "--no-verify leaves out the checks"},
		{"up kubeproxy --budget cluser=1s", "there are up, doctor, node image, cluster"},
		{"up kubeproxy --budget up", "as in up=90s"},
		{"up kubeproxy --budget up=90", "as in up=90s"},
		{"up kubeproxy --budget up=-1s", "as in up=90s"},
		{"up kubeproxy --budget up=1s --budget up=2s", "up has a budget already"},
		{"verify --budget up=1s", "there are verify, setup, checks"},
		{"verify --list --timings x", "--timings is for checks that run"},
		{"verify --list -o markdown", "-o json with --list"},
		{"capture", "say where to capture"},
		{"capture icmp", "say where to capture"},
		{"capture worker -w - -o json", "not both"},
		{"capture worker --", "no command"},
		{"capture worker -- no-such-command-here", "no-such-command-here"},
		{"monitor a b", "one lab"},
		{"monitor a --name b", "which lab"},
		{"monitor --", "no command"},
		{"monitor -- no-such-command-here", "no-such-command-here"},
		{"monitor --type drops", "there are trace, drop, step"},
		{"monitor --from a/b/c", "want a pod, as demo or kube-system/coredns"},
		{"service list --frontend demo", "with a port or without"},
		{"flows --verdict maybe", "there are forwarded and dropped"},
		{"flows --last 0", "shows nothing"},
		{"flows --listen 127.0.0.1:1", "--listen is for --serve"},
		{"flows --serve --pod demo", "--pod is for flows that are printed"},
		{"flows --serve -o json", "--output is for flows that are printed"},
		{"flows --serve --listen localhost:1", "want an address and a port"},
		{"flows --serve --listen 0.0.0.0:4245", "without TLS only an address of this machine"},
		{"flows --serve --tls-cert a", "three files"},
		{"flows --serve --tls-cert /none --tls-key /none --tls-client-ca /none", "open /none"},
	} {
		out, errOut, code := call(t, strings.Fields(tt.args)...)
		if code != exitUsage || !strings.Contains(errOut, tt.say) || out != "" {
			t.Errorf("lab %s: exit %d, want 2 and %q on stderr alone:\n%s%s", tt.args, code, tt.say, out, errOut)
		}
	}
}

// TestEmptyIsNoWish: what an unset variable in a script leaves is refused by name, not taken for what it is not.
func TestEmptyIsNoWish(t *testing.T) {
	withoutDocker(t)
	for _, tt := range []struct {
		args []string
		say  string
	}{
		{[]string{"up", "kubeproxy", "--name", ""}, "--name"},
		{[]string{"up", "kubeproxy", "--name="}, "--name"},
		{[]string{"up", ""}, "argument 1"},
		{[]string{"up", "kubeproxy", "--set", ""}, "--set"},
		{[]string{"up", "kubeproxy", "--set", "verify.skip="}, "verify.skip"},
		{[]string{"up", "kubeproxy", "--set", "cluster.image="}, "cluster.image"},
		{[]string{"down", ""}, "argument 1"},
		{[]string{"down", " "}, "argument 1"},
		{[]string{"status", ""}, "argument 1"},
		{[]string{"verify", ""}, "argument 1"},
		{[]string{"verify", "--only", ""}, "--only"},
		{[]string{"verify", "--only", "dns,"}, "--only"},
		{[]string{"verify", "--only", "dns", "--only", ""}, "--only"},
		{[]string{"verify", "--skip", ""}, "--skip"},
		{[]string{"verify", "--list", "--only="}, "--only"},
		{[]string{"bench", ""}, "argument 1"},
		{[]string{"report", ""}, "argument 1"},
		{[]string{"report", "--dir", ""}, "--dir"},
		{[]string{"verify", "--report", ""}, "--report"},
		{[]string{"up", "kubeproxy", "--report", ""}, "--report"},
		{[]string{"up", "kubeproxy", "--kubeconfig", ""}, "--kubeconfig"},
		{[]string{"install", "ebpf", "--context", ""}, "--context"},
		{[]string{"uninstall", "--context", ""}, "--context"},
		{[]string{"up", "kubeproxy", "--timings", ""}, "--timings"},
		{[]string{"up", "kubeproxy", "--budget", ""}, "--budget"},
		{[]string{"verify", "--output-file", ""}, "--output-file"},
		{[]string{"logs", "--name", ""}, "--name"},
		{[]string{"logs", "--node", ""}, "--node"},
		{[]string{"logs", ""}, "argument 1"},
		{[]string{"shell", "", "--", "true"}, "argument 1"},
		{[]string{"monitor", "--from", ""}, "--from"},
		{[]string{"monitor", ""}, "argument 1"},
		{[]string{"shell", "worker", "--name", "", "--", "true"}, "--name"},
		{[]string{"service", "list", "--service", ""}, "--service"},
		{[]string{"service", "list", "--name", ""}, "--name"},
		{[]string{"bpf", "ct", "list", "--address", ""}, "--address"},
		{[]string{"doctor", ""}, "argument 1"},
		{[]string{"image", ""}, "argument 1"},
		{[]string{"profile", "explain", ""}, "argument 1"},
	} {
		out, errOut, code := call(t, tt.args...)
		if code != exitUsage || !strings.Contains(errOut, tt.say) || !strings.Contains(errOut, "empty") || out != "" {
			t.Errorf("lab %q: exit %d, want 2 and %q on stderr alone:\n%s%s", tt.args, code, tt.say, out, errOut)
		}
	}
	// A command that is run elsewhere has its own idea of empty words.
	if _, errOut, code := call(t, "shell", "worker", "--", "test", "-z", ""); code != exitFailed || !strings.Contains(errOut, "docker is not running") {
		t.Errorf("exit %d: %s", code, errOut)
	}
}

func TestWithoutDocker(t *testing.T) {
	withoutDocker(t)
	t.Setenv("TMPDIR", t.TempDir())
	for _, args := range []string{
		"up kubeproxy", "down x", "list", "status", "status x", "logs", "shell x", "image", "verify x",
		"service list", "bpf lb list", "bpf endpoint list --node worker", "bpf ipcache list", "endpoint list", "endpoint get default/x", "identity list", "identity get 256",
	} {
		_, errOut, code := call(t, strings.Fields(args)...)
		if code != exitFailed || !strings.Contains(errOut, "docker is not running") || !strings.Contains(errOut, "make deps") {
			t.Errorf("lab %s: exit %d, want 1 and the way out:\n%s", args, code, errOut)
		}
	}
}

// TestKnownBeforeAnythingIsMade: Docker is not even asked.
func TestKnownBeforeAnythingIsMade(t *testing.T) {
	withoutDocker(t)
	for _, tt := range []struct{ set, say string }{
		{"verify.skip=dsn", "verify.skip: select checks: \"dsn\" picks none"},
		{"verify.skip=services/h*,nothing/*", `"nothing/*" picks none`},
		{"verify.skip=maps", "picks none"}, // there are none in this mode
		{"verify.skip=*", "no check is left"},
		{"cluster.image=Not/An/Image", "cluster.image: \"Not/An/Image\" is not the name of an image"},
		{"cluster.image=kindest/node:v1 .37", "not the name of an image"},
		{"cluster.image=a:b:c", "not the name of an image"},
	} {
		for _, cmd := range []string{"up", "doctor"} {
			out, errOut, code := call(t, cmd, "kubeproxy", "--set", tt.set)
			if code != exitUsage || !strings.Contains(errOut, tt.say) || out != "" {
				t.Errorf("lab %s --set %s: exit %d, want 2 and %q:\n%s%s", cmd, tt.set, code, tt.say, out, errOut)
			}
		}
	}
	if _, errOut, code := call(t, "up", "kubeproxy", "--set", "demo.enabled=false", "--set", "verify.skip=demo"); code != exitUsage || !strings.Contains(errOut, "picks none") {
		t.Errorf("a check that the lab does not claim: exit %d: %s", code, errOut)
	}
	for _, fine := range []string{"cluster.image=kindest/node:v1.37.0", "cluster.image=localhost:5000/node@sha256:" + strings.Repeat("a", 64), "verify.skip=dns,services/*"} {
		if _, errOut, code := call(t, "up", "kubeproxy", "--set", fine); code != exitFailed || !strings.Contains(errOut, "docker is not running") {
			t.Errorf("--set %s: exit %d: %s", fine, code, errOut)
		}
	}
}

// TestImageThatIsNoNode: it is seen by what it starts, before a container of it is made.
func TestImageThatIsNoNode(t *testing.T) {
	entrypoint := `["/bin/sh"]`
	dockertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		fmt.Fprintf(w, `{"Id":"sha256:1","Config":{"Entrypoint":%s}}`, entrypoint)
	})
	if _, errOut, code := call(t, "image", "kubeproxy", "--set", "cluster.image=busybox:1"); code != exitFailed || !strings.Contains(errOut, "busybox:1 starts") {
		t.Errorf("exit %d: %s", code, errOut)
	}
	entrypoint = `["/usr/local/bin/entrypoint","/sbin/init"]`
	if out, errOut, code := call(t, "image", "kubeproxy", "--set", "cluster.image=my/node:1"); code != exitFine || !strings.Contains(out, "my/node:1") {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
}

// TestVerifyReportsWhatItCouldNotLookAt: a report is there also when nothing could be looked at, in every format.
func TestVerifyReportsWhatItCouldNotLookAt(t *testing.T) {
	withoutDocker(t)
	for format, want := range map[string]string{"text": "ERROR", "json": `"status": "error"`, "junit": `<error message="`, "markdown": "| ERROR |"} {
		out, errOut, code := call(t, "verify", "x", "--only", "dns,demo", "-o", format)
		if code != exitFailed || !strings.Contains(errOut, "docker is not running") {
			t.Errorf("-o %s: exit %d: %s", format, code, errOut)
		}
		if strings.Count(out, want) != 2 || !strings.Contains(out, "docker is not running") {
			t.Errorf("-o %s: want both checks with the reason:\n%s", format, out)
		}
	}
	if out, _, _ := call(t, "verify", "x", "-o", "junit"); !strings.Contains(out, `<testsuite name="lab x"`) {
		t.Errorf("the suite does not name the lab:\n%.300s", out)
	}
}

func TestUpWithoutDockerForMachines(t *testing.T) {
	withoutDocker(t)
	t.Setenv("TMPDIR", t.TempDir())
	out, errOut, code := call(t, "up", "kubeproxy", "--name", "x", "-o", "json")
	var r labs.UpResult
	if err := json.Unmarshal([]byte(out), &r); code != exitFailed || err != nil || r.Lab != "x" || len(r.Findings) == 0 {
		t.Errorf("exit %d, %v, %+v", code, err, r)
	}
	var events []labs.Event
	for line := range strings.Lines(errOut) {
		var e labs.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("not an event: %q: %v", line, err)
		}
		events = append(events, e)
	}
	last := events[len(events)-1]
	if events[0].Step != "doctor" || last.State != labs.StepFailed || !strings.Contains(last.Note, "docker is not running") {
		t.Errorf("first event %+v, last %+v", events[0], last)
	}
}

func TestDoctorWithoutDocker(t *testing.T) {
	withoutDocker(t)
	out, _, code := call(t, "doctor", "-o", "json")
	var found []doctor.Finding
	if err := json.Unmarshal([]byte(out), &found); code != exitFailed || err != nil || doctor.Worst(found) != doctor.Missing {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
	text, errOut, code := call(t, "doctor")
	if code != exitFailed || !strings.Contains(text, "mend: ") || !strings.Contains(errOut, "mend what is missing") {
		t.Errorf("exit %d:\n%s%s", code, text, errOut)
	}
}

func TestVersion(t *testing.T) {
	out, _, code := call(t, "version")
	if code != exitFine || !strings.HasPrefix(out, "lab ") || !strings.Contains(out, "kindest/node:") {
		t.Errorf("exit %d: %s", code, out)
	}
	out, _, code = call(t, "version", "-o", "json")
	var v map[string]string
	if err := json.Unmarshal([]byte(out), &v); code != exitFine || err != nil {
		t.Fatalf("exit %d, %v:\n%s", code, err, out)
	}
	for key, want := range map[string]string{
		"version": version.Version, "commit": version.Commit, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
		"nodeImage": image.Short(image.DefaultNodeImage), "profileAPI": profiles.APIVersion, "mapLayout": api.MapLayout,
	} {
		if got, ok := v[key]; !ok || got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
		delete(v, key)
	}
	if len(v) > 0 {
		t.Errorf("nobody tests %v", v)
	}
}

func TestCompletion(t *testing.T) {
	withoutDocker(t)
	for args, want := range map[string]string{
		"__complete up ":        "kubeproxy",
		"__complete logs ":      "kube-proxy\nrelay",
		"__complete status -o ": "json",
		"completion bash":       "__start_lab",
		"completion zsh":        "#compdef lab",
		"completion fish":       "complete -c lab",
	} {
		fields := strings.Fields(args)
		if strings.HasSuffix(args, " ") {
			fields = append(fields, "")
		}
		if out, errOut, code := call(t, fields...); code != exitFine || !strings.Contains(out, want) {
			t.Errorf("lab %s: exit %d, want %q:\n%s%s", args, code, want, out, errOut)
		}
	}
}

func TestProgressPlain(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&b, false)
	for _, e := range []labs.Event{
		{Step: "cluster", State: labs.StepRunning},
		{Step: "images", State: labs.StepRunning},
		{Step: "cluster", State: labs.StepRunning, Note: "starting control-plane"},
		{Step: "images", State: labs.StepDone, Note: "two", Duration: 1500 * time.Millisecond},
		{Step: "cluster", State: labs.StepFailed, Note: "broken", Duration: time.Second},
		{Step: "cluster", State: labs.StepUndoing},
	} {
		p.event(e)
	}
	p.close()
	want := `  cluster
  images
✓ images            1.5s  two
✗ cluster           1.0s
  undoing cluster (interrupt to stop at once)
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestLabsText(t *testing.T) {
	if s := labsText(nil); !strings.Contains(s, "lab up kubeproxy") {
		t.Errorf("no labs: %q", s)
	}
	s := labsText([]labs.Summary{{
		Name: "a", Profile: "kubeproxy", State: labs.StateHalf, Nodes: []string{"a-1", "a-2"}, Image: "wirelab/node:v1", Created: time.Now().Add(-time.Hour),
	}})
	for _, part := range []string{"half made", "  2  ", "wirelab/node:v1", "60m"} {
		if !strings.Contains(s, part) {
			t.Errorf("no %q in\n%s", part, s)
		}
	}
}

func TestUpTextNamesTheKubeconfig(t *testing.T) {
	for file, want := range map[string]string{"": ": kubectl --context kind-x get", "/a/b": ": kubectl --kubeconfig /a/b --context kind-x get"} {
		if got := upText(&labs.UpResult{Lab: "x", Context: "kind-x", Kubeconfig: file}); !strings.Contains(got, want) {
			t.Errorf("%q has no %q", got, want)
		}
	}
}

// TestUpTakesAKubeconfigFromThisFolder: what the lab remembers has to be found from every other folder.
func TestUpTakesAKubeconfigFromThisFolder(t *testing.T) {
	withoutDocker(t)
	t.Setenv("TMPDIR", t.TempDir())
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	out, _, code := call(t, "up", "kubeproxy", "--name", "x", "--kubeconfig", "config", "-o", "json")
	var r labs.UpResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFailed || r.Kubeconfig != filepath.Join(here, "config") {
		t.Errorf("exit %d, %v, kubeconfig %q", code, err, r.Kubeconfig)
	}
}

// TestWhichLab: every command about a lab takes --name, and says what it could be to a shell that completes.
func TestWhichLab(t *testing.T) {
	var without []string
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.Name() == "help" || !c.Runnable() || c.HasSubCommands() {
			return
		}
		path := strings.TrimPrefix(c.CommandPath(), "lab ")
		if c.Flags().Lookup("name") == nil {
			without = append(without, path)
			return
		}
		if _, ok := c.GetFlagCompletionFunc("name"); !ok {
			t.Errorf("%s: nothing completes --name", path)
		}
		if _, is := c.Annotations[labArgument]; is != strings.Contains(c.Use, "LAB") || is && c.ValidArgsFunction == nil {
			t.Errorf("%s: its use is %q, and its first argument is a lab's name: %v", path, c.Use, is)
		}
	}
	walk(newRootCmd())
	want := []string{"docs", "doctor", "image", "install", "list", "matrix", "profile", "uninstall", "version"}
	for _, path := range without {
		if group, _, _ := strings.Cut(path, " "); !slices.Contains(want, group) {
			t.Errorf("lab %s is about a lab and has no --name", path)
		}
	}
}
