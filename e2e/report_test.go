//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// plantedSecrets is a Secret, an event that tells it, and a pod with others in its environment, its annotations and what it is
// started with.
const plantedSecrets = `
apiVersion: v1
kind: Secret
metadata: {name: planted, namespace: default}
stringData: {password: planted-in-a-Secret}
---
apiVersion: v1
kind: Pod
metadata:
  name: planted
  namespace: default
  annotations: {example.com/note: planted-in-an-annotation}
spec:
  nodeName: %NODE%
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: none.invalid/none:1
    imagePullPolicy: Never
    command: [sh, -c, "planted-in-a-command"]
    env:
    - {name: PLANTED, value: planted-in-the-environment}
---
apiVersion: v1
kind: Event
metadata: {name: planted, namespace: default}
involvedObject: {kind: Pod, name: planted, namespace: default}
reason: Planted
message: "the database refuses planted-in-a-Secret, says the network"
type: Warning
`

// testReport has a report of a lab in which secrets are: it has all, and none of them. That what it is made of has them is the
// control.
func testReport(t *testing.T, name string) {
	node := name + "-control-plane"
	apply(t, name, strings.ReplaceAll(plantedSecrets, "%NODE%", node))
	t.Cleanup(func() {
		kubectl(t, name, "delete", "--ignore-not-found", "pod/planted", "secret/planted", "event/planted")
	})
	secrets := []string{"planted-in-a-Secret", "planted-in-the-environment", "planted-in-an-annotation", "planted-in-a-command"}
	objects := kubectl(t, name, "get", "pods,events", "-o", "json")
	for _, s := range secrets {
		if !strings.Contains(objects, s) {
			t.Fatalf("%s is not even in the cluster", s)
		}
	}
	secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte("planted-in-a-Secret")))
	token := kubectl(t, name, "create", "token", "default")
	key := onNode(t, node, "cat", "/etc/kubernetes/pki/apiserver.key")
	config := onNode(t, node, "grep", "-o", "client-key-data: .*", "/etc/kubernetes/admin.conf")
	// As a pod of the system would have logged it, line by line.
	var logged strings.Builder
	for line := range strings.Lines(key + "\n" + config + "\nBearer " + token + "\nthe end of what was planted\n") {
		logged.WriteString("2026-01-02T15:04:05.000000000Z stderr F " + line)
	}
	scheduler := onNode(t, node, "sh", "-c", "ls -t /var/log/pods/kube-system_kube-scheduler-*/kube-scheduler/*.log | head -n 1")
	onNode(t, node, "sh", "-c", `printf %s "$0" >>"$1"`, logged.String(), scheduler)
	secrets = append(secrets, token, strings.Split(key, "\n")[1], strings.Fields(config)[1])

	dir := filepath.Join(t.TempDir(), "report")
	o := lab(t, "report", name, "-o", dir, "--no-verify")
	if o.code != 0 {
		t.Errorf("exit status %d: %s", o.code, o.stderr)
	}
	t.Logf("a report takes %.1f s", o.took.Seconds())
	files := unpacked(t, filepath.Join(dir, "report.tar.zst"))
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	files["page"] = string(page)
	for file, text := range files {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%.20s… is in %s", s, file)
			}
		}
	}
	at := "report-" + name + "/"
	for file, want := range map[string]string{
		"lab/status.json": `"ready": true`, "lab/profile.yaml": "kind: Profile", "kubernetes/pods.json": `"PLANTED"`, "kubernetes/events.txt": "says the network",
		"kubernetes/labnodes.json": node, "nodes/" + node + "/routes.txt": "lab_host", "nodes/" + node + "/links.txt": "lab_net", "nodes/" + node + "/rules.txt": "lookup main",
		"nodes/" + node + "/programs.txt": "lab_from_pod", "nodes/" + node + "/maps.txt": "lab_endpoints", "nodes/" + node + "/agent/status.json": `"reconcilers"`,
		"nodes/" + node + "/agent/bpf-endpoint-list.json": `"hostIf"`, "nodes/" + node + "/agent/features.json": `"name"`,
		"nodes/" + node + "/agent/metrics.txt": "wirelab_", "nodes/" + node + "/kubelet.log": "kubelet", "nodes/" + node + "/logs/kube-system_kube-scheduler-" + node + "_kube-scheduler_" + path.Base(scheduler): "the end of what was planted",
	} {
		if !strings.Contains(files[at+file], want) {
			t.Errorf("%s has no %q: %.300s", file, want, files[at+file])
		}
	}
	if !strings.Contains(files["page"], "Flows of the last 15 minutes") {
		t.Error("nobody was asked for flows")
	}
	for _, f := range []string{"", "report.html", "report.tar.zst"} {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q: mode %v, %v", f, info.Mode(), err)
		}
	}
}

// unpacked are the files of an archive by their names.
func unpacked(t *testing.T, archive string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
}
