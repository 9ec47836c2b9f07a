package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"wirelab.dev/wirelab/bench/testbed"
	"wirelab.dev/wirelab/internal/agent/config"
)

// patience is how long anything is waited for that takes a second at most.
const patience = 30 * time.Second

// node is one in a network namespace, with an agent that comes and goes.
type node struct {
	host *testbed.Host
	spec agentSpec
	self []string // the command line that is an agent
	dir  string

	agent *exec.Cmd // nil when none runs
	stdin io.WriteCloser
	log   bytes.Buffer // of the agent that runs, or ran last
}

// newNode makes a node without an agent. Plugin is the path of the CNI plugin's binary, self the command line
// by which this program is an agent.
func newNode(b *testbed.Bed, plugin string, self []string, services, pods int) (*node, error) {
	host, err := b.Host("node")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wlbench")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	n := &node{host: host, self: self, dir: dir}
	cfg := config.Default()
	cfg.RoutingMode, cfg.AutoDirectNodeRoutes = "native", true
	cfg.NodeName, cfg.DaemonSet, cfg.IPv4NativeRoutingCIDR = nodeName, namespace+"/"+daemonSet, netip.MustParsePrefix("10.0.0.0/8")
	cfg.KubeProxyReplacement = true
	cfg.Paths.BPFFS, cfg.Paths.CgroupRoot = host.BPFFS, host.Cgroup
	cfg.Paths.RunDir = filepath.Join(dir, "run")
	cfg.Paths.CNIConfDir, cfg.Paths.CNIBinDir = filepath.Join(dir, "net.d"), filepath.Join(dir, "bin")
	cfg.Paths.CNIPlugin = plugin
	n.spec = agentSpec{Config: cfg, NodeIP: host.Addr.String(), Services: services, Pods: pods}
	for _, d := range []string{cfg.Paths.CNIConfDir, cfg.Paths.CNIBinDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("make directory: %w", err), n.close())
		}
	}
	return n, nil
}

func (n *node) close() error { return errors.Join(n.kill(), os.RemoveAll(n.dir)) }

// launch starts an agent.
func (n *node) launch() error {
	spec, err := json.Marshal(n.spec)
	if err != nil {
		return fmt.Errorf("tell the agent what it is: %w", err)
	}
	cmd := exec.Command(n.self[0], n.self[1:]...)
	n.log.Reset()
	cmd.Stderr = &n.log
	if n.stdin, err = cmd.StdinPipe(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	// A new process has the namespace of the thread that starts it.
	if err := n.host.Do(cmd.Start); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	n.agent = cmd
	if _, err := fmt.Fprintf(n.stdin, "%s\n", spec); err != nil {
		return fmt.Errorf("tell the agent what it is: %w", err)
	}
	return nil
}

// tell has something happen in the agent's cluster.
func (n *node) tell(c change) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(n.stdin, "%s\n", line)
	return err
}

// kill ends the agent at once.
func (n *node) kill() error {
	if n.agent == nil {
		return nil
	}
	err := n.agent.Process.Kill()
	_ = n.agent.Wait() // which says that it was killed
	n.agent = nil
	return err
}

// await polls until done says so, which has to be soon.
func (n *node) await(ctx context.Context, what string, every time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w; the agent says: %s", what, errors.Join(context.Cause(ctx), err), lastLines(n.log.String()))
		case <-time.After(every):
		}
	}
}

// lastLines are the end of a log.
func lastLines(log string) string { return log[max(0, len(log)-600):] }

// ready waits until the agent has written the CNI configuration, which it does last.
func (n *node) ready(ctx context.Context) error {
	return n.await(ctx, "the node is ready", time.Millisecond, func() (bool, error) {
		files, err := filepath.Glob(filepath.Join(n.spec.Config.Paths.CNIConfDir, "*.conflist"))
		return len(files) > 0, err
	})
}
