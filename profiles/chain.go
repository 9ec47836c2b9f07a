package profiles

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/nearest"
	"wirelab.dev/wirelab/internal/settings"
)

// shipped are the profiles that come with the binary; a file's name is its profile's.
//
//go:embed *.yaml
var shipped embed.FS

// maxSize bounds a profile's file; the shipped ones have about 2 kB.
const maxSize = 1 << 20

// file is a profile's text and where it was found.
type file struct {
	// id is equal for two references to the same file.
	id, source string
	// dir is where relative paths start; empty when there are none.
	dir  string
	data []byte
}

// chain collects the layers of a profile and of those it extends, the base first.
type chain struct {
	root   *settings.Key
	found  problems
	layers []layer
	trail  []file
	// partial is set when a file of the chain could not be read.
	partial bool
}

func shippedNames() []string {
	entries, err := shipped.ReadDir(".")
	if err != nil {
		panic("profiles: " + err.Error()) // the embedded root always exists
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	slices.Sort(names) // as files, a.yaml comes after a-b.yaml
	return names
}

// isPath tells a path from the name of a shipped profile.
func isPath(ref string) bool {
	return strings.ContainsRune(ref, '/') || strings.HasSuffix(ref, ".yaml") || strings.HasSuffix(ref, ".yml")
}

// follow adds the profile that ref means, as seen from the directory dir. at is where
// the reference stands; it has no source when it was typed.
func (c *chain) follow(ref, dir string, at origin) {
	f, err := open(ref, dir)
	if err != nil {
		p := &Problem{Source: at.source, Line: at.line, Message: err.Error(), cause: err}
		if at.source != "" {
			p.Key = "extends"
		}
		c.found.add(p)
		return
	}
	if i := slices.IndexFunc(c.trail, func(t file) bool { return t.id == f.id }); i >= 0 {
		var names []string
		for _, t := range append(c.trail[i:len(c.trail):len(c.trail)], f) {
			names = append(names, t.source)
		}
		c.extends(at, "the profiles extend each other in a circle: %s", strings.Join(names, " -> "))
		return
	}
	c.add(f)
}

// add reads f, after the profile that it extends.
func (c *chain) add(f file) {
	l, ok := readLayer(c.root, f.source, f.data, &c.found)
	c.partial = c.partial || !ok
	c.trail = append(c.trail, f)
	at := l.origins["extends"]
	switch ref, _ := l.values["extends"].(string); {
	case strings.TrimSpace(ref) == "" && at.source != "":
		c.extends(at, "is empty; name a profile, or remove the line")
	case ref == "":
	case f.dir == "" && isPath(ref):
		c.extends(at, "%q is a path, but this profile has no place of its own to start from; extend a shipped one", ref)
	default:
		c.follow(ref, f.dir, at)
	}
	if len(c.layers) > 0 {
		// What was extended gave its settings, not its name.
		base := c.layers[len(c.layers)-1]
		delete(base.values, "metadata")
	}
	c.layers = append(c.layers, l)
}

// extends says what is wrong with an extends.
func (c *chain) extends(at origin, format string, args ...any) {
	c.found.add(&Problem{Source: at.source, Line: at.line, Key: "extends", Message: fmt.Sprintf(format, args...)})
}

func open(ref, dir string) (file, error) {
	if !isPath(ref) {
		data, err := shipped.ReadFile(ref + ".yaml")
		if err != nil {
			return file{}, unknownProfile(ref)
		}
		return file{id: "shipped " + ref, source: "profile " + ref, data: data}, nil
	}
	path := ref
	if !filepath.IsAbs(path) && dir != "" {
		path = filepath.Join(dir, path)
	}
	data, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return file{}, fmt.Errorf("%w: there is no file %s%s", ErrUnknown, path, hintShipped(path))
	case err != nil:
		return file{}, fmt.Errorf("read profile %s: %w", path, plainCause(err))
	}
	id, err := filepath.Abs(path)
	if err != nil {
		return file{}, fmt.Errorf("read profile %s: %w", path, err)
	}
	if real, err := filepath.EvalSymlinks(id); err == nil {
		id = real
	}
	return file{id: id, source: path, dir: filepath.Dir(path), data: data}, nil
}

// hintShipped helps who wrote the name of a shipped profile like a file's.
func hintShipped(path string) string {
	base := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if slices.Contains(shippedNames(), base) {
		return "; the shipped profile is given by its name alone, " + base
	}
	return ""
}

// plainCause drops the operation and path that an [fs.PathError] repeats.
func plainCause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func readFile(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("it is larger than %d bytes, which no profile is", maxSize)
	}
	return data, err
}

func unknownProfile(name string) error {
	names := shippedNames()
	hint := "shipped are " + strings.Join(names, ", ")
	if near := nearest.Of(name, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	if name == "" {
		return fmt.Errorf("%w: its name is empty; %s", ErrUnknown, hint)
	}
	return fmt.Errorf("%w %q: %s (a file is given by its path, such as ./%s.yaml)", ErrUnknown, name, hint, name)
}
