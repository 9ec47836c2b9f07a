// Package kubeconfig puts a lab's context into the user's kubeconfig and takes it out again. The files are those that
// kubectl would read and write. Whatever goes wrong, a file has its old content or its new one, and nothing in it that is
// not the lab's is changed.
package kubeconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/atomicfile"
)

// Modes of what is made new, as client-go has them.
const (
	folderMode = 0o755
	fileMode   = 0o600
)

// Files are the files of a kubeconfig, the first of which counts most.
type Files []string

// FromEnv are the files that the environment names: those in KUBECONFIG, else ~/.kube/config.
func FromEnv() Files {
	var out Files
	for _, name := range filepath.SplitList(os.Getenv("KUBECONFIG")) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if len(out) > 0 {
		return out
	}
	home := os.Getenv("HOME")
	if u, err := user.Current(); home == "" && err == nil {
		home = u.HomeDir
	}
	return Files{filepath.Join(home, ".kube", "config")}
}

// Target is the file that takes what no file has yet: the first that is there, else the last.
func (f Files) Target() string {
	for _, name := range f {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return f[len(f)-1]
}

// Error is what is wrong with one file.
type Error struct {
	File string
	Do   string // "read", "parse", "write"
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Do, e.File, bare(e.Err, e.File)) }
func (e *Error) Unwrap() error { return e.Err }

// bare leaves out the name of the file where it only repeats what is said already.
func bare(err error, file string) error {
	var p *fs.PathError
	if errors.As(err, &p) && p.Path == file {
		return p.Err
	}
	return err
}

// Check tells whether [Files.Add] of this context would succeed, without leaving a trace: every file that is there can be
// read and is a kubeconfig, and those to be written to can be. The error wraps an [*Error] for each file with a fault.
func (f Files) Check(ctx context.Context, name string) error {
	docs, err := f.load()
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range f.touched(docs, name) {
		if err := tryWrite(ctx, file); err != nil {
			errs = append(errs, &Error{File: file, Do: "write", Err: err})
		}
	}
	return errors.Join(errs...)
}

// tryWrite does all that a change of the file will need.
func tryWrite(ctx context.Context, file string) error {
	dir := filepath.Dir(file)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return mayMake(dir)
	}
	unlock, err := lockAll(ctx, []string{file})
	if err != nil {
		return err
	}
	defer unlock()
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	const entry = 16 << 10 // more than a context with its certificates has
	return atomicfile.Try(file, append(old, make([]byte, entry)...), fileMode)
}

// mayMake tells whether a folder can be made: its nearest ancestor that is there has to be a folder to write to.
func mayMake(dir string) error {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return &fs.PathError{Op: "make folder", Path: dir, Err: unix.ENOTDIR}
		case err == nil:
			if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
				return &fs.PathError{Op: "make a folder in", Path: dir, Err: err}
			}
			return nil
		case !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir):
			return err
		}
		dir = filepath.Dir(dir)
	}
}

// Add puts the one cluster, user and context of config, all called name, into the files. With current it makes the context
// current, and remembers beside it what was current before.
func (f Files) Add(ctx context.Context, name string, config []byte, current bool) error {
	add, err := parse(config)
	if err != nil {
		return fmt.Errorf("read the kubeconfig of context %s: %w", name, err)
	}
	target := f.Target()
	if err := os.MkdirAll(filepath.Dir(target), folderMode); err != nil {
		return &Error{File: target, Do: "write", Err: err}
	}
	return f.change(ctx, append(f.present(), target), func(docs map[string]*document) error {
		if docs[target] == nil {
			docs[target] = empty()
		}
		before := f.current(docs)
		if before == name || !current {
			before = f.before(docs, name)
		}
		for _, l := range lists {
			entry := add.entry(l.list, name)
			if entry == nil {
				return fmt.Errorf("the kubeconfig of context %s has none of that name among its %s", name, l.list)
			}
			if l.list == "contexts" && before != "" {
				remember(entry, before)
			}
			docs[f.home(docs, l.list, name, target)].set(l.list, name, entry)
		}
		if current {
			docs[target].setCurrent(name)
		}
		return nil
	})
}

// Remove takes the cluster, user and context called name out of the files. Where the context is current, the one that was
// current before is so again, if it is still there. What is not in any file is no error, and then nothing is written.
func (f Files) Remove(ctx context.Context, name string) error {
	var with []string
	for _, file := range f.present() {
		content, err := os.ReadFile(file)
		if err != nil {
			return &Error{File: file, Do: "read", Err: err}
		}
		if !bytes.Contains(content, []byte(name)) {
			continue
		}
		if d, err := parse(content); err != nil || d.names(name) {
			with = append(with, file)
		}
	}
	if len(with) == 0 {
		return nil
	}
	return f.change(ctx, with, func(docs map[string]*document) error {
		before, wasIn := f.before(docs, name), ""
		for _, file := range f {
			d := docs[file]
			if d == nil {
				continue
			}
			for _, l := range lists {
				d.remove(l.list, name)
			}
			d.redirect(name, before)
			if d.current() == name {
				d.setCurrent("")
				if wasIn == "" {
					wasIn = file
				}
			}
		}
		all, _ := f.load() // what is wrong with another file is no matter here
		maps.Copy(all, docs)
		known := slices.ContainsFunc(f, func(file string) bool { return all[file] != nil && all[file].entry("contexts", before) != nil })
		if wasIn != "" && before != "" && known && f.current(all) != before {
			docs[wasIn].setCurrent(before)
		}
		return nil
	})
}

// Has tells whether the context called name is in a file, as far as they can be read.
func (f Files) Has(name string) bool {
	docs, _ := f.load()
	return slices.ContainsFunc(f, func(file string) bool { return docs[file] != nil && docs[file].entry("contexts", name) != nil })
}

// change reads the files, lets edit change them, and writes those that it changed, all under their locks.
func (f Files) change(ctx context.Context, files []string, edit func(map[string]*document) error) error {
	slices.Sort(files)
	files = slices.Compact(files)
	unlock, err := lockAll(ctx, files)
	if err != nil {
		return &Error{File: strings.Join(files, ", "), Do: "lock", Err: err}
	}
	defer unlock()
	docs, err := Files(files).load()
	if err != nil {
		return err
	}
	if err := edit(docs); err != nil {
		return err
	}
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(docs)) {
		if d := docs[file]; d.changed {
			content, err := d.bytes()
			if err == nil {
				err = atomicfile.Replace(file, content, fileMode)
			}
			if err != nil {
				errs = append(errs, &Error{File: file, Do: "write", Err: err})
			}
		}
	}
	return errors.Join(errs...)
}

// present are the files that are there.
func (f Files) present() []string {
	return slices.DeleteFunc(slices.Clone(f), func(name string) bool {
		_, err := os.Stat(name)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// load reads the files that are there.
func (f Files) load() (map[string]*document, error) {
	docs := map[string]*document{}
	var errs []error
	for _, file := range f {
		content, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, &Error{File: file, Do: "read", Err: err})
			continue
		}
		d, err := parse(content)
		if err != nil {
			errs = append(errs, &Error{File: file, Do: "parse", Err: err})
			continue
		}
		docs[file] = d
	}
	return docs, errors.Join(errs...)
}

// touched are the files that adding a context would write to.
func (f Files) touched(docs map[string]*document, name string) []string {
	out := []string{f.Target()}
	for _, l := range lists {
		if file := f.home(docs, l.list, name, out[0]); !slices.Contains(out, file) {
			out = append(out, file)
		}
	}
	return out
}

// home is the first file that has the entry, else the target.
func (f Files) home(docs map[string]*document, list, name, target string) string {
	for _, file := range f {
		if d := docs[file]; d != nil && d.entry(list, name) != nil {
			return file
		}
	}
	return target
}

// current is the current context: that of the first file that has one.
func (f Files) current(docs map[string]*document) string {
	for _, file := range f {
		if d := docs[file]; d != nil && d.current() != "" {
			return d.current()
		}
	}
	return ""
}

// before is what was current before the context called name.
func (f Files) before(docs map[string]*document, name string) string {
	for _, file := range f {
		if d := docs[file]; d != nil && d.entry("contexts", name) != nil {
			return d.before(name)
		}
	}
	return ""
}
