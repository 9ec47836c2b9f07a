package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"wirelab.dev/wirelab/internal/agent/config"
)

// Names of what the container runtime looks for. 05 comes before the names
// other networks use: the runtime takes the first.
const (
	cniConfName   = "05-wirelab.conflist"
	cniPluginName = "wirelab-cni"
)

// cniFiles are the plugin and its configuration on the node. The
// configuration is what makes the kubelet report the node Ready, so it is
// written when all else works, after the plugin it names.
type cniFiles struct {
	source string // the plugin in the agent's image
	plugin string // where the runtime finds it
	conf   string
	onNode string // conf as the node has it
	socket string
}

func newCNIFiles(p config.Paths) cniFiles {
	return cniFiles{
		source: p.CNIPlugin,
		plugin: filepath.Join(p.HostRoot, p.CNIBinDir, cniPluginName),
		conf:   filepath.Join(p.HostRoot, p.CNIConfDir, cniConfName),
		onNode: filepath.Join(p.CNIConfDir, cniConfName),
		socket: p.CNISocket(),
	}
}

// conflist is a network configuration list of CNI 1.1.
func (f cniFiles) conflist() ([]byte, error) {
	type plugin struct {
		Type   string `json:"type"`
		Socket string `json:"socket"`
	}
	list := struct {
		CNIVersion string   `json:"cniVersion"`
		Name       string   `json:"name"`
		Plugins    []plugin `json:"plugins"`
	}{"1.1.0", "wirelab", []plugin{{Type: cniPluginName, Socket: f.socket}}}
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the CNI configuration: %w", err)
	}
	return append(b, '\n'), nil
}

// apply installs both where they differ from what they should be.
func (f cniFiles) apply(context.Context) error {
	src, err := os.Open(f.source)
	if err != nil {
		return fmt.Errorf("open the CNI plugin: %w", err)
	}
	defer src.Close()
	for _, dir := range []string{filepath.Dir(f.plugin), filepath.Dir(f.conf)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the directory of the CNI files: %w", err)
		}
	}
	if err := installFile(f.plugin, src, 0o755); err != nil {
		return fmt.Errorf("install the CNI plugin: %w", err)
	}
	conf, err := f.conflist()
	if err != nil {
		return err
	}
	if err := installFile(f.conf, bytes.NewReader(conf), 0o644); err != nil {
		return fmt.Errorf("write the CNI configuration: %w", err)
	}
	return nil
}

// written reports whether the configuration is there.
func (f cniFiles) written() bool {
	_, err := os.Stat(f.conf)
	return err == nil
}

// rivals are configurations that the runtime takes before ours, sorted.
func (f cniFiles) rivals() []string {
	entries, err := os.ReadDir(filepath.Dir(f.conf))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries { // sorted by name, as the runtime has them
		switch ext := filepath.Ext(e.Name()); {
		case e.Name() >= cniConfName:
		case ext == ".conf" || ext == ".conflist" || ext == ".json":
			names = append(names, e.Name())
		}
	}
	return names
}

func (f cniFiles) removeConf() error {
	return errors.Join(removeFile(f.conf), removeFile(asidePath(f.conf)))
}

func (f cniFiles) removePlugin() error {
	return errors.Join(removeFile(f.plugin), removeFile(asidePath(f.plugin)))
}

// removeFile removes a file that may not be there.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // names the file itself
	}
	return nil
}

// installFile makes path have the content of src, which it reads to the end.
// The file is replaced as a whole: a reader sees the old or the new one, and
// a running plugin keeps its own. Nothing is written when it is right already.
func installFile(path string, src io.ReadSeeker, mode os.FileMode) error {
	same, err := sameContent(path, src, mode)
	if same || err != nil {
		return err
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	// An agent that was killed here leaves the file behind: the name is the
	// same for the next.
	tmp, err := os.OpenFile(asidePath(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, src)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, removeFile(tmp.Name()))
	}
	return nil
}

// asidePath is where a file is written before it takes its place. The name is
// hidden and has no extension the runtime looks for.
func asidePath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

func sameContent(path string, src io.Reader, mode os.FileMode) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode().Perm() != mode {
		return false, err
	}
	return equalReaders(f, src)
}

func equalReaders(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		nA, errA := io.ReadFull(a, bufA)
		nB, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:nA], bufB[:nB]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil, nil
		}
	}
}
