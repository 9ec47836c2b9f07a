package labs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/bugreport"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker/dockertest"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
)

// lacks tells whether a report says of a part that it is lacking, with these words.
func lacks(r *bugreport.Report, path, words string) bool {
	return slices.ContainsFunc(r.Lacking(), func(p bugreport.Part) bool { return p.Path == path && strings.Contains(p.Lacking, words) })
}

func hasRed(r *bugreport.Report, what, why string) bool {
	return slices.ContainsFunc(r.Red, func(red bugreport.Red) bool { return red.What == what && strings.Contains(red.Why, why) })
}

func content(r *bugreport.Report, path string) string {
	i := slices.IndexFunc(r.Parts, func(p bugreport.Part) bool { return p.Path == path })
	if i < 0 {
		return ""
	}
	return string(r.Parts[i].Content)
}

func shipped(t *testing.T, name string) *profiles.Profile {
	t.Helper()
	p, err := profiles.Load(name, profiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestBugReportWithoutDocker: versions are there, and what was to be made, and why nothing else is.
func TestBugReportWithoutDocker(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "docker.sock"))
	r, err := BugReport(t.Context(), "x", BugReportOptions{Verify: true})
	if err != nil || len(r.About) < 3 || len(r.Lacking()) != 1 || !lacks(r, "lab", "docker is not running") {
		t.Errorf("%v, %+v", err, r)
	}
	r, err = BugReport(t.Context(), "x", BugReportOptions{
		Profile: shipped(t, "ebpf"), Failed: errors.New("doctor: broken"), Steps: []StepResult{{Name: "doctor", State: StepFailed, Note: "broken"}},
	})
	if err != nil || !hasRed(r, "step doctor", "broken") || !strings.Contains(content(r, "lab/profile.yaml"), "name: ebpf") || !strings.Contains(content(r, "machine/doctor.json"), "docker") {
		t.Errorf("%v, %+v", err, r.Red)
	}
	if r.Red[0].What != "step doctor" {
		t.Errorf("what failed is not first: %+v", r.Red)
	}
}

// engineOf serves the containers of a lab x made from profile ebpf: a control plane and a worker in these states. Files are
// what the control plane has.
func engineOf(t *testing.T, controlPlane, worker string, files ...string) {
	t.Helper()
	made, err := labelsOf(shipped(t, "ebpf"))
	if err != nil {
		t.Fatal(err)
	}
	dockertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch at := strings.TrimPrefix(r.URL.Path, "/v1.41"); {
		case at == "/containers/json":
			var out []map[string]any
			for name, state := range map[string]string{"control-plane": controlPlane, "worker": worker} {
				labels := map[string]string{"io.x-k8s.kind.cluster": "x", "io.x-k8s.kind.role": name, cluster.LabelLab: "x"}
				for k, v := range made {
					labels[k] = v
				}
				out = append(out, map[string]any{"Id": name, "Names": []string{"/x-" + name}, "State": state, "Labels": labels})
			}
			_ = json.NewEncoder(w).Encode(out)
		case strings.HasSuffix(at, "/archive"):
			if !slices.Contains(files, r.URL.Query().Get("path")) {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"message":"no such file"}`)
				return
			}
			w.Header().Set("X-Docker-Container-Path-Stat", "e30=")
		case strings.HasSuffix(at, "/json"):
			fmt.Fprint(w, `{"Id":"1","Config":{"Tty":true}}`)
		case strings.HasSuffix(at, "/logs"):
			fmt.Fprint(w, "systemd has started\n")
		case at == "/info":
			fmt.Fprint(w, `{"ServerVersion":"29.0.0","NCPU":2}`)
		default:
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, `{"message":"not served: %s"}`, at)
		}
	})
}

// TestBugReportOfHalfALab: its containers say what is to be known, also those that do not run.
func TestBugReportOfHalfALab(t *testing.T) {
	engineOf(t, "exited", "paused")
	r, err := BugReport(t.Context(), "x", BugReportOptions{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	for what, why := range map[string]string{"lab x": "half made", "node x-control-plane": "is stopped", "node x-worker": "is paused", "API server": "node x-control-plane is stopped"} {
		if !hasRed(r, what, why) {
			t.Errorf("of %s it is not said that it %s: %+v", what, why, r.Red)
		}
	}
	for path, words := range map[string]string{"nodes/x-control-plane": "is stopped", "nodes/x-worker": "is paused", "kubernetes": "is stopped", "checks": "half made"} {
		if !lacks(r, path, words) {
			t.Errorf("%s: want %q in %+v", path, words, r.Lacking())
		}
	}
	if len(r.Lacking()) != 4 {
		t.Errorf("lacking: %+v", r.Lacking())
	}
	if !strings.Contains(content(r, "lab/profile.yaml"), "name: ebpf") || content(r, "nodes/x-worker/boot.log") != "systemd has started\n" {
		t.Errorf("what can be had is not there: %+v", r.Parts)
	}
	if _, err := BugReport(t.Context(), "y", BugReportOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a lab that is not there: %v", err)
	}
}

// TestBugReportOfSilentNodes: nodes that run and let nobody in, and an API server that is away.
func TestBugReportOfSilentNodes(t *testing.T) {
	engineOf(t, "running", "running", "/kind/wirelab-complete")
	r, err := BugReport(t.Context(), "x", BugReportOptions{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		"kubernetes": "the API server cannot be asked", "checks": "the API server cannot be asked",
		"nodes/x-worker/routes.txt": "not served", "nodes/x-worker/agent/status.json": "not served", "nodes/x-worker/logs": "not served",
	} {
		if !lacks(r, path, words) {
			t.Errorf("%s: want %q in %+v", path, words, r.Lacking())
		}
	}
	if hasRed(r, "lab x", "half made") {
		t.Error("a whole lab is called half made")
	}
	for _, p := range r.Lacking() {
		if strings.Contains(p.Lacking, "\n") {
			t.Errorf("more than a line: %q", p.Lacking)
		}
	}
}

// TestLateAnswers: who does not answer keeps nobody else from it, and is given up.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
		asks := []ask{{part: bugreport.Part{Path: "well"}, do: func(context.Context) ([]byte, error) { return []byte("fine"), nil }}}
		for range asksAtOnce {
			asks = append(asks, ask{part: bugreport.Part{Path: "late"}, do: silent})
		}
		began := time.Now()
		parts := answered(t.Context(), asks)
		if took := time.Since(began); took < partTimeout || took > 2*partTimeout {
			t.Errorf("it took %s", took)
		}
		if string(parts[0].Content) != "fine" || parts[0].Lacking != "" || parts[1].Lacking != "no answer within "+partTimeout.String() {
			t.Errorf("%+v", parts[:2])
		}
	})
}

func TestBoundedAnswer(t *testing.T) {
	var b bounded
	line := []byte(strings.Repeat("x", 1000) + "\n")
	for range 5 << 10 {
		if n, err := b.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if n := len(b.whole()); n > maxAnswer || n < maxAnswer-len(line) || n%len(line) != 0 {
		t.Errorf("%d bytes, which are not whole lines, or too few", n)
	}
	if err := b.err(); err == nil || err.Error() != "it has 5125120 bytes, of which those here are the first" {
		t.Errorf("%v", err)
	}
	b = bounded{}
	if _, err := b.Write([]byte("no end of a line")); err != nil || b.err() != nil || string(b.whole()) != "no end of a line" {
		t.Errorf("%q, %v, %v", b.whole(), b.err(), err)
	}
}

// TestLogsScript runs what nodes run, on logs of which one is longer than what is taken.
func TestLogsScript(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"kube-system_a_1/c/0.log": "one\ntwo topic=packets\nthree\n", "kube-system_b_1/c/0.log": strings.Repeat(strings.Repeat("y", 999)+"\n", 100) + "end\n", "other_c_1/c/0.log": "other\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(logsScript, SystemNamespace, "default", "demo", "topic", "packets", "==> ")
	out, err := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(script, "/var/log/pods", dir)).Output()
	if err != nil {
		t.Fatal(err)
	}
	logs := strings.Split(string(out), "\n==> ")
	if len(logs) != 3 || !strings.HasSuffix(logs[1], "/kube-system_a_1/c/0.log\none\nthree\n") {
		t.Fatalf("%.300q", logs)
	}
	lines := strings.Split(strings.TrimSuffix(logs[2], "\n"), "\n")
	if n := len(lines); n < 60 || n > 70 || len(lines[1]) != 999 || lines[n-1] != "end" {
		t.Errorf("%d lines, the first of %d bytes, the last %.20s", n, len(lines[1]), lines[n-1])
	}
}

// TestWhatCannotBeLaidOut is there all the same.
func TestWhatCannotBeLaidOut(t *testing.T) {
	a := ask{do: func(context.Context) ([]byte, error) { return []byte("x"), errors.New("cut short") }, show: func([]byte) (string, error) { return "", errors.New("no JSON") }}
	if p := a.answer(t.Context()); string(p.Content) != "x" || p.Shown != "" || p.Lacking != "it cannot be laid out: no JSON cut short" {
		t.Errorf("%+v", p)
	}
}

func TestLogOf(t *testing.T) {
	pod, container, run := logOf("/var/log/pods/kube-system_wirelab-agent-d7z79_f9581991-c369/agent/1.log")
	if pod != "kube-system/wirelab-agent-d7z79" || container != "agent" || run != "1" {
		t.Errorf("%s %s %s", pod, container, run)
	}
}

// TestChecksThatFailComeFirst, with what speaks against them.
func TestChecksThatFailComeFirst(t *testing.T) {
	b := &bugReporter{report: &bugreport.Report{Lab: "x"}, agents: map[string]*api.Status{"n": {NotReady: []string{"no podCIDR"}}}}
	b.Checks = &verify.Report{Lab: "x", Results: []verify.Result{
		{Name: "a/pass", Status: verify.Pass, Seen: []string{"it"}},
		{Name: "b/error", Status: verify.Error, Error: "no pod"},
		{Name: "c/fail", Status: verify.Fail, Wrong: []verify.Finding{{About: "the map", Want: "1", Seen: "2"}}},
	}}
	b.checks(t.Context())
	b.wrong()
	rows := b.report.Tables[0].Rows
	if rows[0].Cells[0] != "c/fail" || !rows[0].Bad || rows[1].Cells[0] != "b/error" || rows[2].Bad {
		t.Errorf("%+v", rows)
	}
	if !hasRed(b.report, "check c/fail", "the map: want 1, seen: 2") || !hasRed(b.report, "check b/error", "no pod") || !hasRed(b.report, "agent of node n", "no podCIDR") || len(b.report.Red) != 3 {
		t.Errorf("%+v", b.report.Red)
	}
	if text := b.report.Parts[0].Shown; !strings.Contains(text, "c/fail") || !strings.Contains(content(b.report, "checks/results.json"), `"passed": false`) {
		t.Errorf("%s", text)
	}
}

// plantedPod has a secret in every place that a pod has for one.
const plantedPod = `{"metadata":{"name":"p","namespace":"%s","managedFields":[{"manager":"managed-field"}],"annotations":{
 "kubectl.kubernetes.io/last-applied-configuration":"{\"env\":\"secret-in-applied\"}","example.com/note":"secret-in-note","kubernetes.io/config.source":"file"}},
 "spec":{"nodeName":"n","initContainers":[{"name":"i","env":[{"name":"A","value":"secret-in-init"}]}],
 "containers":[{"name":"c","image":"i:1","command":["secret-in-command"],"args":["secret-in-args"],"env":[{"name":"DB","value":"secret-in-env"},{"name":"R","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}],
 "livenessProbe":{"httpGet":{"path":"/live","httpHeaders":[{"name":"Authorization","value":"secret-in-header"}]}},"lifecycle":{"preStop":{"exec":{"command":["secret-in-hook"]}}}}],
 "ephemeralContainers":[{"name":"e","env":[{"name":"E","value":"secret-in-ephemeral"}]}]},"status":{"phase":"Running"}}`

// serverOf answers with a list at each of the paths, and nothing at others.
func serverOf(t *testing.T, at map[string]string) *kube.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body, ok := at[r.URL.Path]
		if strings.Contains(r.Header.Get("Accept"), "as=Table") {
			body, ok = at[r.URL.Path+"?table"]
		}
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			body = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"the server could not find the requested resource"}`
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	k, err := kube.NewForConfig(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestObjectsHaveNoSecrets: what is read has them, which is the control; what a report has of it does not, and has the rest.
func TestObjectsHaveNoSecrets(t *testing.T) {
	user, system := fmt.Sprintf(plantedPod, "default"), fmt.Sprintf(plantedPod, SystemNamespace)
	const workload = `{"metadata":{"name":"d","namespace":"default"},"spec":{"template":{"metadata":{"annotations":{"x":"secret-in-template"}},"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"secret-in-workload"}]}]}}}}`
	k := serverOf(t, map[string]string{
		"/api/v1/pods":             `{"kind":"PodList","apiVersion":"v1","items":[` + user + `,` + system + `]}`,
		"/apis/apps/v1/daemonsets": `{"kind":"DaemonSetList","apiVersion":"apps/v1","items":[` + workload + `]}`,
		"/api/v1/secrets": `{"kind":"SecretList","apiVersion":"v1","items":[{"type":"Opaque","data":{"a":"dmFsdWUtb2YtYQ=="}},
 {"type":"kubernetes.io/service-account-token","data":{"token":"dG9rZW4tb2YtYW4tYWNjb3VudA==","namespace":"a3ViZS1zeXN0ZW0="}}]}`,
		"/api/v1/pods?table": `{"kind":"Table","apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"name":"Name"},{"name":"Status"}],"rows":[{"cells":["p","Running"],"object":{"metadata":{"namespace":"default"}}}]}`,
	})
	all := ""
	for _, at := range []string{"/api/v1/pods", "/apis/apps/v1/daemonsets"} {
		got, err := objects(t.Context(), k, at)
		if err != nil {
			t.Fatal(err)
		}
		all += string(got)
	}
	// The system's own are started with what a report is about.
	ofSystem := strings.Count(all, "secret-in-command") + strings.Count(all, "secret-in-args") + strings.Count(all, "secret-in-hook")
	rest := strings.NewReplacer("secret-in-command", "", "secret-in-args", "", "secret-in-hook", "").Replace(all)
	if ofSystem != 3 || strings.Contains(rest, "secret-in-") || strings.Contains(all, "managed-field") {
		t.Errorf("%d of the system's; secrets are in %s", ofSystem, all)
	}
	if n := strings.Count(user+workload, "secret-in-"); n != 11 {
		t.Errorf("%d secrets were planted, not 11", n)
	}
	for _, want := range []string{`"name": "DB"`, `"secretKeyRef"`, `"path": "/live"`, `"kubernetes.io/config.source": "file"`, `"phase": "Running"`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not there", want)
		}
	}
	table, err := objectTable(t.Context(), k, "/api/v1/pods")
	if err != nil || string(table) != "NAMESPACE  NAME  STATUS\ndefault    p     Running\n" {
		t.Errorf("%q, %v", table, err)
	}
	if _, err := objects(t.Context(), k, "/apis/wirelab.dev/v1alpha1/labnodes"); err == nil || !strings.Contains(err.Error(), "labnodes") {
		t.Errorf("a kind that there is not: %v", err)
	}
	values, err := secretValues(t.Context(), k)
	if err != nil || !slices.Contains(values, "value-of-a") || !slices.Contains(values, "token-of-an-account") || !slices.Contains(values, "secret-in-env") || slices.Contains(values, SystemNamespace) {
		t.Errorf("%q, %v", values, err)
	}
}

// TestSecretsAreNotAskedFor by a report's own objects.
func TestSecretsAreNotAskedFor(t *testing.T) {
	for _, at := range objectKinds() {
		if strings.Contains(at, "secrets") || strings.HasSuffix(at, "/configmaps") {
			t.Errorf("%s is in reports", at)
		}
	}
}
