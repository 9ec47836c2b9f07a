// Package netnstest makes network namespaces for tests, and small networks of them. It needs root.
//
// A namespace lives as long as an open file of this process refers to it, so nothing that a failing or
// killed test made is left behind.
package netnstest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// StrictEnv is set to 1 where a test that cannot run has to fail: under the make targets and in CI.
const StrictEnv = "WIRELAB_TEST_STRICT"

// RequireRoot ends the test without root: skipped by hand, failed where [StrictEnv] is set.
func RequireRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv(StrictEnv) == "1" {
		tb.Fatal("this test needs root")
	}
	tb.Skip("this test needs root: it makes network namespaces and loads BPF programs")
}

// NS is a network namespace, open until the test ends.
type NS struct {
	// Name is the given name with a random part, for messages.
	Name string

	tb testing.TB
	fd int
	nl *netlink.Handle
}

// New makes a namespace with lo up.
func New(tb testing.TB, name string) *NS {
	tb.Helper()
	RequireRoot(tb)
	fd, err := create()
	if err != nil {
		tb.Fatalf("make network namespace %s: %v", name, err)
	}
	n := &NS{Name: name + "-" + strings.ToLower(rand.Text()[:6]), tb: tb, fd: fd}
	if n.nl, err = netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE); err != nil {
		unix.Close(fd)
		tb.Fatalf("open netlink in %s: %v", n.Name, err)
	}
	tb.Cleanup(n.close)
	lo, err := n.nl.LinkByName("lo")
	n.must(err, "look up lo")
	n.must(n.nl.LinkSetUp(lo), "set lo up")
	return n
}

// create makes the namespace on a thread of its own. Go ends a thread whose goroutine ends without
// unlocking it, so none can go on in the wrong namespace.
func create() (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}()
	<-done
	return fd, err
}

func (n *NS) close() {
	n.nl.Close()
	if err := unix.Close(n.fd); err != nil {
		n.tb.Errorf("close network namespace %s: %v", n.Name, err)
	}
}

// FD is the namespace's open file.
func (n *NS) FD() int { return n.fd }

// Netlink is a handle in the namespace, closed with it.
func (n *NS) Netlink() *netlink.Handle { return n.nl }

// Do calls f on a thread that is in the namespace. Goroutines that f starts are not. A thread that
// does not get home is given up together with the test.
func (n *NS) Do(f func()) {
	n.tb.Helper()
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		n.tb.Fatalf("open own network namespace: %v", err)
	}
	defer func() {
		err := unix.Setns(home, unix.CLONE_NEWNET)
		unix.Close(home)
		if err != nil {
			n.tb.Errorf("leave network namespace %s: %v", n.Name, err)
			return // still locked: the thread ends with the goroutine
		}
		runtime.UnlockOSThread()
	}()
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		n.tb.Fatalf("enter network namespace %s: %v", n.Name, err)
	}
	f()
}

// Run runs a command in the namespace and returns what it printed; the test fails when it does.
func (n *NS) Run(command ...string) string {
	n.tb.Helper()
	out, err := n.TryRun(command...)
	if err != nil {
		n.tb.Fatalf("in %s: %v", n.Name, err)
	}
	return out
}

// TryRun is Run for commands that may fail.
func (n *NS) TryRun(command ...string) (string, error) {
	n.tb.Helper()
	var stdout, stderr bytes.Buffer
	var err error
	n.Do(func() {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err = cmd.Run()
	})
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Sysctl sets a sysctl of the namespace, by its path below /proc/sys.
func (n *NS) Sysctl(path, value string) {
	n.tb.Helper()
	n.Do(func() { n.must(os.WriteFile("/proc/sys/"+path, []byte(value), 0o644), "set sysctl") })
}

// ReadSysctl reads one.
func (n *NS) ReadSysctl(path string) string {
	n.tb.Helper()
	var value []byte
	n.Do(func() {
		var err error
		value, err = os.ReadFile("/proc/sys/" + path)
		n.must(err, "read sysctl")
	})
	return strings.TrimSpace(string(value))
}

func (n *NS) must(err error, doing string) {
	n.tb.Helper()
	if err != nil {
		n.tb.Fatalf("%s in %s: %v", doing, n.Name, err)
	}
}
