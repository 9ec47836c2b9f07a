//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const loadedImage = "wirelab-e2e/load:1"

// testLoad gives an image that no registry has to all nodes, from a file and from Docker, and runs a pod of it on each.
func testLoad(t *testing.T, name string) {
	file := filepath.Join(t.TempDir(), "load.tar")
	writeSleeper(t, file)
	type result struct {
		Images []struct{ Image, ID, Source string }
		Nodes  []struct{ Image, Node, State string }
	}
	states := func(r result) (s string) {
		for _, n := range r.Nodes {
			s += n.Image + " " + n.State + "\n"
		}
		return s
	}
	nodes := containers(t, name)
	var fromFile, fromDocker result
	labJSON(t, &fromFile, "load", file, "--name", name)
	if want := strings.Repeat(loadedImage+" loaded\n", len(nodes)); states(fromFile) != want {
		t.Errorf("from a file: %s, want %s", states(fromFile), want)
	}
	if _, err := command("docker", "load", "-q", "-i", file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := command("docker", "rmi", loadedImage); err != nil {
			t.Error(err)
		}
	})
	labJSON(t, &fromDocker, "load", loadedImage, "--name", name)
	if want := strings.Repeat(loadedImage+" present\n", len(nodes)); states(fromDocker) != want {
		t.Errorf("from Docker, the same: %s, want %s", states(fromDocker), want)
	}

	var pods strings.Builder
	for i, n := range nodes {
		fmt.Fprintf(&pods, `---
apiVersion: v1
kind: Pod
metadata: {name: loaded-%d, namespace: default, labels: {of: load}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  containers: [{name: loaded, image: %s, imagePullPolicy: Never}]
`, i, n, loadedImage)
	}
	apply(t, name, pods.String())
	defer kubectl(t, name, "delete", "pods", "-l", "of=load", "--wait=false")
	eventually(t, time.Minute, "a pod of the image runs on each node", func() string {
		got := kubectl(t, name, "get", "pods", "-l", "of=load", "-o", `jsonpath={range .items[*]}{.spec.nodeName} {.status.phase}{"\n"}{end}`)
		if strings.Count(got, "Running") == len(nodes) {
			return ""
		}
		return got
	})
}

// writeSleeper writes an image archive with busybox in it, which sleeps.
func writeSleeper(t *testing.T, to string) {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "busybox", Mode: 0o755, Size: int64(len(busybox))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(busybox); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Entrypoint: []string{"/busybox", "sleep", "3600"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, static.NewLayer(layer.Bytes(), types.DockerUncompressedLayer)); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(loadedImage)
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(to, tag, img); err != nil {
		t.Fatal(err)
	}
}
