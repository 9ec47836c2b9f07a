// Package atomicfile replaces files whole: whatever goes wrong, and at whatever instruction a process is killed, there is
// either the old content or the new one under the name.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxLinks bounds a chain of symbolic links, as the kernel does.
const maxLinks = 40

// leftoverAge is how old a file beside the target must be to count as what a killed process left: writing one takes
// milliseconds.
const leftoverAge = time.Minute

// Replace gives the file name, or what it is a link to, this content. A file that is there keeps its mode and its owner, a
// new one gets mode fresh. The folder must be there.
func Replace(name string, content []byte, fresh fs.FileMode) error {
	target, err := Resolve(name)
	if err != nil {
		return err
	}
	removeLeftovers(target)
	aside, err := write(target, content, fresh)
	if err != nil {
		return err
	}
	if err := os.Rename(aside, target); err != nil {
		return errors.Join(explainRename(err, target), os.Remove(aside))
	}
	return syncDir(filepath.Dir(target))
}

// Try does all of [Replace] but the replacing: it writes this content beside the file and removes it again. A nil error
// says that Replace would most likely succeed.
func Try(name string, content []byte, fresh fs.FileMode) error {
	target, err := Resolve(name)
	if err != nil {
		return err
	}
	if isMount(target) {
		return explainRename(unix.EBUSY, target)
	}
	aside, err := write(target, content, fresh)
	if err != nil {
		return err
	}
	return os.Remove(aside)
}

// Resolve follows name to the file that it means, which need not be there: a link may point to nothing yet.
func Resolve(name string) (string, error) {
	for range maxLinks {
		to, err := os.Readlink(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EINVAL) {
			return name, nil // nothing there, or no link
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(name), to)
		}
		name = to
	}
	return "", &fs.PathError{Op: "follow", Path: name, Err: syscall.ELOOP}
}

// write puts content into a new file beside target, on the disk, with target's mode and owner. On error nothing is left.
func write(target string, content []byte, fresh fs.FileMode) (_ string, err error) {
	info, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info = nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", target)
	}
	f, err := os.CreateTemp(filepath.Dir(target), pattern(target)) // of mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = keep(f, info, fresh)
	}
	if err == nil {
		err = f.Sync()
	}
	return f.Name(), errors.Join(err, f.Close())
}

// keep gives f the owner and mode of the file that it replaces, nil when there is none.
func keep(f *os.File, old fs.FileInfo, fresh fs.FileMode) error {
	if old == nil {
		return f.Chmod(fresh)
	}
	was, ok := old.Sys().(*syscall.Stat_t)
	now, err := f.Stat()
	if err != nil {
		return err
	}
	is, ok2 := now.Sys().(*syscall.Stat_t)
	if ok && ok2 && (was.Uid != is.Uid || was.Gid != is.Gid) {
		if err := f.Chown(int(was.Uid), int(was.Gid)); err != nil {
			return fmt.Errorf("%s belongs to user %d and group %d, and a new version of it cannot be given to them: %w", old.Name(), was.Uid, was.Gid, err)
		}
	}
	return f.Chmod(old.Mode().Perm())
}

func pattern(target string) string { return "." + filepath.Base(target) + ".wirelab-*" }

// removeLeftovers removes what a killed process left beside target. It is no harm when it cannot.
func removeLeftovers(target string) {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(target), pattern(target)))
	if err != nil {
		return
	}
	for _, name := range found {
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(name)
		}
	}
}

func explainRename(err error, target string) error {
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is a mount point of its own and cannot be replaced whole: mount its folder instead", target)
	}
	return err
}

// syncDir makes a rename last. Some file systems cannot sync a folder, and the rename has taken place all the same.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil //nolint:nilerr // a folder that may be written to and not read
	}
	_ = d.Sync()
	return d.Close()
}
