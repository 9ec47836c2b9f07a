package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// machine is one that runs tests under a kernel.
type machine struct {
	kernel  string
	version string // the kernel's release
	dir     string // what fetch.sh has made
	tests   []program
}

func newMachine(ctx context.Context, kernel string, tests []program) (*machine, error) {
	fetch := exec.CommandContext(ctx, "hack/kernels/fetch.sh", kernel)
	fetch.Stderr = os.Stderr
	out, err := fetch.Output()
	if err != nil {
		return nil, fmt.Errorf("fetch kernel %s: %w", kernel, err)
	}
	m := &machine{kernel: kernel, dir: strings.TrimSpace(string(out)), tests: tests}
	version, err := os.ReadFile(filepath.Join(m.dir, "version"))
	m.version = strings.TrimSpace(string(version))
	return m, err
}

// run starts the machine, and ends when it does.
func (m *machine) run(ctx context.Context) report {
	begin := time.Now()
	r := report{kernel: m.kernel, version: m.version, packages: map[string]*outcome{}}
	r.err = m.emulate(ctx, &r)
	r.took = time.Since(begin)
	return r
}

// emulate runs QEMU in its own file system, so that it needs no package of this machine's. Emulated in software: what
// passes for KVM inside of virtual machines cannot be told from the real one before it fails.
func (m *machine) emulate(ctx context.Context, r *report) error {
	root, err := filepath.EvalSymlinks(filepath.Join(m.dir, "qemu"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(root, "tmp"), m.kernel+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := m.fill(ctx, dir); err != nil {
		return fmt.Errorf("make the initial file system: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	within := strings.TrimPrefix(dir, root)
	qemu := exec.CommandContext(ctx, "/usr/bin/qemu-system-x86_64",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
		// A plain processor: with all that can be emulated, tests take a third longer. rdrand is the kernel's first randomness.
		// One of them: with two, older versions of QEMU broke kernels that change their own code.
		"-machine", "q35", "-accel", "tcg", "-cpu", "qemu64,+rdrand", "-smp", "1", "-m", "1536",
		"-kernel", within+"/vmlinuz", "-initrd", within+"/initrd",
		// Without the check of the timer: on a busy machine it finds none, and the kernel panics. And without what makes
		// attacks on the kernel harder: it takes time, and changes nothing that is tested.
		"-append", "console=ttyS0 loglevel=4 panic=-1 oops=panic no_timer_check mitigations=off init_on_alloc=0 hardened_usercopy=off nokaslr random.trust_cpu=on rdinit=/init",
		"-serial", "file:"+within+"/console", "-serial", "stdio")
	qemu.Path = qemu.Args[0] // of the other file system
	qemu.Err = nil
	qemu.Dir = "/"
	qemu.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	qemu.Stderr = &stderr
	out, err := qemu.StdoutPipe()
	if err != nil {
		return err
	}
	if err := qemu.Start(); err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	readErr := r.read(out)
	err = qemu.Wait()
	r.console, _ = os.ReadFile(filepath.Join(dir, "console"))
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("the machine did not end within %v", timeout)
	case ctx.Err() != nil:
		return errors.New("the run was interrupted")
	case err != nil:
		return fmt.Errorf("QEMU: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return readErr
}

// fill writes what QEMU boots: the kernel, and the initial file system with the tests behind the rest.
func (m *machine) fill(ctx context.Context, dir string) error {
	if err := os.Link(filepath.Join(m.dir, "vmlinuz"), filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	tree := filepath.Join(dir, "tree")
	var script strings.Builder
	for _, t := range m.tests {
		name := filepath.Base(t.path)
		if err := m.add(tree, t); err != nil {
			return err
		}
		remove, load := "true", "true"
		if t.without != "" {
			remove, load = "modprobe -r "+t.without, "modprobe "+t.without
		}
		fmt.Fprintf(&script, "echo '%s%s'\n", beginMark, t.name())
		fmt.Fprintf(&script, "(%s && cd '/tests/%s' && WIRELAB_TEST_STRICT=1 WIRELAB_TEST_KERNEL=%s exec /tests/%s -test.v=test2json -test.timeout=%v -test.run='%s')\n",
			remove, t.folder, m.kernel, name, timeout, strings.ReplaceAll(t.regexp(), "'", `'\''`))
		fmt.Fprintf(&script, "echo \"%s$?\"\n%s\n", endMark, load)
	}
	if err := os.WriteFile(filepath.Join(tree, "tests/run"), []byte(script.String()), 0o644); err != nil {
		return err
	}
	initrd, err := os.Create(filepath.Join(dir, "initrd"))
	if err != nil {
		return err
	}
	defer initrd.Close()
	base, err := os.Open(filepath.Join(m.dir, "base.cpio"))
	if err != nil {
		return err
	}
	defer base.Close()
	if _, err := io.Copy(initrd, base); err != nil {
		return err
	}
	archive := exec.CommandContext(ctx, "sh", "-c", "find . | cpio --quiet -o -H newc -R 0:0")
	archive.Dir, archive.Stdout, archive.Stderr = tree, initrd, os.Stderr
	return archive.Run()
}

// add puts what a suite needs into the file system, unless another suite of the same folder has.
func (m *machine) add(tree string, t program) error {
	at := filepath.Join(tree, "tests", t.folder)
	if _, err := os.Stat(at); err == nil {
		return nil
	}
	if err := os.CopyFS(at, os.DirFS(t.folder)); err != nil { // tests read objects and testdata
		return err
	}
	return os.Link(t.path, filepath.Join(tree, "tests", filepath.Base(t.path)))
}

// Lines of the machine's around what a package's tests print.
const (
	beginMark = "=== PACKAGE "
	endMark   = "=== STATUS "
)

// read takes apart what the machine prints. It ends when the machine does.
func (r *report) read(out io.Reader) error {
	var o *outcome
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		folder, begins := strings.CutPrefix(line, beginMark)
		said, status, ends := strings.Cut(line, endMark)
		switch {
		case begins:
			o = &outcome{}
			r.packages[strings.TrimSpace(folder)] = o
		case o != nil:
			o.said.WriteString(said)
			if ends {
				o.status = strings.TrimSpace(status)
				o = nil
			}
		}
		switch {
		case err == io.EOF && o != nil:
			return errors.New("the machine died while it ran tests")
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}
