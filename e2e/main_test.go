//go:build e2e

// Package e2e drives the lab binary itself, on real kind clusters, as a person or a CI system would.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// network is the Docker network that labs of these tests are made on, and its bridge. Both are ours
// alone: a rule about them concerns nobody else's containers.
const network = "wirelab-e2e"

// labBin is the binary under test, an absolute path.
var labBin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run prepares the machine, runs the tests and cleans up, whatever happened. What it needs and does not
// find is a failure: a skipped end-to-end test would look like a passed one.
func run(m *testing.M) (code int) {
	undo, err := prepare()
	defer func() {
		if err := undo(); err != nil {
			fmt.Fprintln(os.Stderr, "clean up:", err)
			code = 1
		}
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		return 1
	}
	return m.Run()
}

func prepare() (undo func() error, err error) {
	undo = func() error { return nil }
	if labBin, err = filepath.Abs("../bin/lab"); err != nil {
		return undo, err
	}
	if _, err := os.Stat(labBin); err != nil {
		return undo, fmt.Errorf("%w: run make build first", err)
	}
	if os.Geteuid() != 0 {
		return undo, errors.New("root is needed for the rule that keeps traffic on this machine")
	}
	if err := os.Setenv("KIND_EXPERIMENTAL_DOCKER_NETWORK", network); err != nil {
		return undo, err
	}
	home, err := os.MkdirTemp("", "wirelab-e2e-")
	if err != nil {
		return undo, err
	}
	if err := os.Setenv("KUBECONFIG", filepath.Join(home, "kubeconfig")); err != nil {
		return undo, err
	}
	undo = func() error { return errors.Join(cleanup(), os.RemoveAll(home)) }
	if err := cleanup(); err != nil { // what an earlier run that was killed has left
		return undo, err
	}
	return undo, isolate()
}

// isolate makes the network and drops what its bridge would forward to any other interface. Dropped,
// not rejected, so that a check that wants a refusal cannot pass by it.
func isolate() error {
	_, err := command("docker", "network", "create", "-o", "com.docker.network.bridge.name="+network, network)
	if err != nil {
		return err
	}
	_, err = command("iptables", append([]string{"-w", "-I"}, dropRule...)...)
	return err
}

var dropRule = []string{"DOCKER-USER", "-i", network, "!", "-o", network, "-j", "DROP"}

// cleanup removes labs, network and rule of these tests, by what the machine says is there.
func cleanup() error {
	var errs []error
	nodes, err := command("docker", "ps", "-aq", "--filter", "network="+network)
	errs = append(errs, err)
	for _, id := range strings.Fields(nodes) {
		_, err := command("docker", "rm", "-f", "-v", id)
		errs = append(errs, err)
	}
	for {
		if _, err := command("iptables", append([]string{"-w", "-D"}, dropRule...)...); err != nil {
			break // no such rule is left
		}
	}
	if found, err := command("docker", "network", "ls", "-q", "--filter", "name=^"+network+"$"); err != nil {
		errs = append(errs, err)
	} else if found != "" {
		_, err := command("docker", "network", "rm", network)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// command runs a short command and returns its standard output, trimmed.
func command(name string, args ...string) (string, error) {
	for try := 1; ; try++ {
		out, err := commandOnce(name, args...)
		// runc now and then loses the process that is to become a command. Nothing has begun then.
		if err == nil || try == 3 || !strings.Contains(err.Error(), "read init-p:") {
			return out, err
		}
	}
}

func commandOnce(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
