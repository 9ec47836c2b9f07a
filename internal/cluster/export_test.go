package cluster

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/docker/dockertest"
)

// node stands in for an engine with one container, the control plane of lab x, the files in it, and the image that it was
// made of, which has lost its tag.
type node struct {
	mu           sync.Mutex
	removed      bool
	removedImage bool
	files        map[string][]byte
}

func (n *node) serve(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := strings.TrimPrefix(r.URL.Path, "/v1.41")
	file := r.URL.Query().Get("path")
	switch {
	case at == "/containers/json":
		found := []map[string]any{}
		if !n.removed && !strings.Contains(r.URL.Query().Get("filters"), RoleLoadBalancer) {
			found = append(found, map[string]any{
				"Id": "1", "Names": []string{"/x-control-plane"}, "State": "running",
				"Labels": map[string]string{labelKindCluster: "x", labelKindRole: RoleControlPlane, LabelLab: "x"},
				"Ports":  []map[string]any{{"IP": "127.0.0.1", "PrivatePort": apiPort, "PublicPort": 7, "Type": "tcp"}},
			})
		}
		_ = json.NewEncoder(w).Encode(found)
	case strings.HasSuffix(at, "/archive") && r.Method == http.MethodPut:
		archive := tar.NewReader(r.Body)
		h, err := archive.Next()
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		n.files[filepath.Join(file, h.Name)], _ = io.ReadAll(archive)
	case strings.HasSuffix(at, "/archive") && (n.removed || n.files[file] == nil):
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"no such file"}`)
	case strings.HasSuffix(at, "/archive"):
		var b bytes.Buffer
		archive := tar.NewWriter(&b)
		_ = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.Base(file), Mode: 0o644, Size: int64(len(n.files[file]))})
		_, _ = archive.Write(n.files[file])
		_ = archive.Close()
		w.Header().Set("Content-Type", "application/x-tar")
		w.Header().Set("X-Docker-Container-Path-Stat", "e30=")
		if r.Method == http.MethodGet {
			_, _ = w.Write(b.Bytes())
		}
	case r.Method == http.MethodDelete && strings.HasPrefix(at, "/containers/"):
		n.removed = true
		w.WriteHeader(http.StatusNoContent)
	case at == "/images/json":
		found := []map[string]any{}
		if !n.removedImage && strings.Contains(r.URL.Query().Get("filters"), LabelLab+"=x") {
			found = append(found, map[string]any{"Id": "sha256:2", "RepoTags": []string{"<none>:<none>"}})
		}
		_ = json.NewEncoder(w).Encode(found)
	case r.Method == http.MethodDelete && at == "/images/sha256:2":
		n.removedImage = true
		fmt.Fprint(w, "[]")
	default: // images by their tag
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"no such image"}`)
	}
}

func clustersOf(t *testing.T, n *node) *Clusters {
	t.Helper()
	dockertest.Serve(t, n.serve)
	e, err := docker.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return New(e, nil)
}

// contexts are the names of the contexts in a kubeconfig, with a star at the current one.
func contexts(t *testing.T, file string) string {
	t.Helper()
	c, err := clientcmd.LoadFromFile(file)
	if os.IsNotExist(err) {
		return "no file"
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range c.Contexts {
		if name == c.CurrentContext {
			name += "*"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

const users = `apiVersion: v1
kind: Config
current-context: work
clusters: [{name: work, cluster: {server: "https://work.example"}}]
contexts: [{name: work, context: {cluster: work, user: me}}]
users: [{name: me, user: {token: secret}}]
`

// TestExportGoesWhereItIsToldAndComesBack: from every file that a lab was ever given a context in, and to no other one.
func TestExportGoesWhereItIsToldAndComesBack(t *testing.T) {
	dir := t.TempDir()
	user, one, two := filepath.Join(dir, "user"), filepath.Join(dir, "new", "one"), filepath.Join(dir, "two")
	t.Setenv("KUBECONFIG", user)
	if err := os.WriteFile(user, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &node{files: map[string][]byte{adminConfig: []byte(admin)}}
	c := clustersOf(t, n)
	for _, step := range []struct {
		to             Export
		user, one, two string
		remembered     string
	}{
		{Export{File: one}, "work*", "kind-x*", "no file", one},
		{Export{File: one, KeepCurrent: true}, "work*", "kind-x*", "no file", one},
		{Export{File: two, KeepCurrent: true}, "work*", "kind-x*", "kind-x", one + " " + two},
		{Export{File: one}, "work*", "kind-x*", "kind-x", two + " " + one},
		{Export{KeepCurrent: true}, "kind-x work*", "kind-x*", "kind-x", two + " " + one},
		{Export{}, "kind-x* work", "kind-x*", "kind-x", two + " " + one},
	} {
		if err := c.ExportKubeConfig(t.Context(), "x", step.to); err != nil {
			t.Fatal(err)
		}
		if got := []string{contexts(t, user), contexts(t, one), contexts(t, two)}; !slices.Equal(got, []string{step.user, step.one, step.two}) {
			t.Errorf("%+v: contexts %q", step.to, got)
		}
		cl, err := c.Find(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		files, err := cl.ExportedTo(t.Context())
		if err != nil || strings.Join(files, " ") != step.remembered {
			t.Errorf("%+v: the lab remembers %q, %v", step.to, files, err)
		}
	}
	left, err := c.Leftovers(t.Context(), "x")
	for _, want := range []string{"container x-control-plane", "context kind-x", "context kind-x in " + one, "context kind-x in " + two, "image " + NodeTag("x")} {
		if err != nil || !slices.Contains(left, want) {
			t.Errorf("%s is not told of among what is left: %q, %v", want, left, err)
		}
	}
	if err := c.Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if got := []string{contexts(t, user), contexts(t, one), contexts(t, two)}; !slices.Equal(got, []string{"work*", "", ""}) || !n.removed || !n.removedImage {
		t.Errorf("after removing: contexts %q, node removed: %v, image removed: %v", got, n.removed, n.removedImage)
	}
}

// TestDeleteGoesOnWhereAFileIsInTheWay: the lab is removed, and the file that could not be changed is named.
func TestDeleteGoesOnWhereAFileIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "one")
	t.Setenv("KUBECONFIG", filepath.Join(dir, "user"))
	n := &node{files: map[string][]byte{adminConfig: []byte(admin)}}
	c := clustersOf(t, n)
	if err := c.ExportKubeConfig(t.Context(), "x", Export{File: file}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("kind-x: a: b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), file) || !n.removed {
		t.Errorf("%v, node removed: %v", err, n.removed)
	}
}
