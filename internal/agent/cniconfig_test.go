package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"wirelab.dev/wirelab/internal/agent/config"
)

// testCNIFiles has the plugin's source and the two directories of a node.
func testCNIFiles(t *testing.T) (cniFiles, config.Paths) {
	t.Helper()
	root := t.TempDir()
	paths := config.Default().Paths
	paths.HostRoot = root
	paths.CNIPlugin = filepath.Join(t.TempDir(), "plugin")
	for _, dir := range []string{paths.CNIBinDir, paths.CNIConfDir} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, paths.CNIPlugin, strings.Repeat("plugin", 50000))
	return newCNIFiles(paths), paths
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestCNIFilesAreInstalled(t *testing.T) {
	f, paths := testCNIFiles(t)
	if err := f.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if readFile(t, f.plugin) != readFile(t, paths.CNIPlugin) {
		t.Error("the plugin is another one")
	}
	if info, err := os.Stat(f.plugin); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the plugin's mode: %v, %v", info.Mode(), err)
	}
	list, err := libcni.ConfListFromFile(f.conf) // as the runtime reads it
	if err != nil {
		t.Fatal(err)
	}
	if list.CNIVersion != "1.1.0" || len(list.Plugins) != 1 || list.Plugins[0].Network.Type != filepath.Base(f.plugin) {
		t.Errorf("the configuration says %s", list.Bytes)
	}
	var plugin struct{ Socket string }
	if err := json.Unmarshal(list.Plugins[0].Bytes, &plugin); err != nil || plugin.Socket != paths.CNISocket() {
		t.Errorf("socket %q, %v", plugin.Socket, err)
	}
	if got := append(names(t, filepath.Dir(f.conf)), names(t, filepath.Dir(f.plugin))...); !reflect.DeepEqual(got, []string{cniConfName, cniPluginName}) {
		t.Errorf("files on the node: %v", got)
	}
}

func TestCNIFilesAreReplacedOnlyWhenTheyDiffer(t *testing.T) {
	f, paths := testCNIFiles(t)
	apply := func() (plugin, conf os.FileInfo) {
		t.Helper()
		if err := f.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		p, err := os.Stat(f.plugin)
		if err != nil {
			t.Fatal(err)
		}
		c, err := os.Stat(f.conf)
		if err != nil {
			t.Fatal(err)
		}
		return p, c
	}
	plugin1, conf1 := apply()
	plugin2, conf2 := apply()
	if !os.SameFile(plugin1, plugin2) || !os.SameFile(conf1, conf2) {
		t.Error("files that were right were written again")
	}
	running, err := os.Open(f.plugin) // as a plugin that is being run
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	writeFile(t, paths.CNIPlugin, strings.Repeat("plugin", 50000)+"2")
	writeFile(t, f.conf, "{}")
	plugin3, _ := apply()
	if os.SameFile(plugin2, plugin3) {
		t.Error("the plugin was written in place, under those who run it")
	}
	if !strings.HasSuffix(readFile(t, f.plugin), "plugin2") || !strings.Contains(readFile(t, f.conf), cniPluginName) {
		t.Error("files that were wrong stayed")
	}
	if err := os.Chmod(f.plugin, 0o600); err != nil {
		t.Fatal(err)
	}
	if plugin, _ := apply(); plugin.Mode().Perm() != 0o755 {
		t.Error("a wrong mode stayed")
	}
}

func TestCNIConfigNeedsThePlugin(t *testing.T) {
	f, paths := testCNIFiles(t)
	if err := os.Remove(paths.CNIPlugin); err != nil {
		t.Fatal(err)
	}
	if err := f.apply(t.Context()); err == nil || f.written() {
		t.Errorf("without a plugin: %v, configuration written: %v", err, f.written())
	}
}

func TestRivals(t *testing.T) {
	f, _ := testCNIFiles(t)
	for _, name := range []string{"00-first.conf", "04-bridge.conflist", "03-notes.txt", "10-other.conflist", cniConfName} {
		writeFile(t, filepath.Join(filepath.Dir(f.conf), name), "{}")
	}
	if got, want := f.rivals(), []string{"00-first.conf", "04-bridge.conflist"}; !reflect.DeepEqual(got, want) {
		t.Errorf("rivals %v, want %v", got, want)
	}
}

func TestCNIFilesAreRemoved(t *testing.T) {
	f, _ := testCNIFiles(t)
	other := filepath.Join(filepath.Dir(f.plugin), "loopback")
	writeFile(t, other, "x")
	if err := f.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	writeFile(t, asidePath(f.plugin), "half a plugin") // as an agent leaves that was killed
	for range 2 {
		if err := f.removeConf(); err != nil {
			t.Fatal(err)
		}
		if err := f.removePlugin(); err != nil {
			t.Fatal(err)
		}
	}
	if got := append(names(t, filepath.Dir(f.conf)), names(t, filepath.Dir(f.plugin))...); !reflect.DeepEqual(got, []string{"loopback"}) {
		t.Errorf("left on the node: %v", got)
	}
}
