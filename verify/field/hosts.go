package field

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

const (
	// ContainerLabel marks containers a run makes; its value is the lab's name.
	ContainerLabel = "dev.wirelab.verify"
	// kindLabel marks the containers kind made a cluster's nodes of.
	kindLabel = "io.x-k8s.kind.cluster"
	// nettoolInImage is where the nettool image has it, nettoolInContainer where a
	// run puts it on nodes and on the outside host. The folder is there in
	// every node image and is no tmpfs, which could forbid execution.
	nettoolInImage     = "/usr/bin/nettool"
	nettoolInContainer = "/usr/local/bin/wirelab-verify-nettool"
	// routeProtocol marks routes a run adds, so that those of an interrupted
	// run are found. The number is free in iproute2's rt_protos.
	routeProtocol = "247"
	// OutsidePort is where the outside host serves.
	OutsidePort = 80
)

// containersOf finds the lab's node containers that run; they are named as the nodes.
func containersOf(ctx context.Context, engine Engine, lab string) ([]docker.Found, error) {
	found, err := engine.Containers(ctx, kindLabel+"="+lab)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(c docker.Found) bool { return !c.Running })
	if len(found) == 0 {
		return nil, fmt.Errorf("no container of lab %q runs in Docker: lab list shows which labs there are", lab)
	}
	return found, nil
}

// inContainer runs nettool in a container.
func inContainer(engine Engine, container string) shell {
	return func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
		code, err := engine.ExecStream(ctx, container, stdin, stdout, stderr, nettoolInContainer, "probe", "batch")
		if err == nil && code != 0 {
			err = fmt.Errorf("nettool in %s ended with status %d", container, code)
		}
		return err
	}
}

// inPod runs nettool in a pod of the run or of the demo.
func inPod(pods PodExec, namespace, pod string) shell {
	return func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
		return pods.ExecPod(ctx, namespace, pod, containerName, []string{nettoolInImage, "probe", "batch"}, stdin, stdout, stderr)
	}
}

// command runs a command in a container to its end.
func command(ctx context.Context, engine Engine, container string, argv ...string) error {
	var words tail
	code, err := engine.ExecStream(ctx, container, nil, io.Discard, &words, argv...)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("run %q in %s: status %d: %s", strings.Join(argv, " "), container, code, words.String())
	}
	return nil
}

// serveOn starts nettool's server where p is.
func serveOn(ctx context.Context, p Prober, at netip.AddrPort) (Running, error) {
	// The server ends with its session, so this is only how long a run may take.
	return p.Start(ctx, probe.Request{Timeout: serveFor, Serve: &probe.Serve{Address: at}})
}

// startOutside starts the outside host on the network of the lab's nodes, from
// their image: it is there already, and it has ip.
func startOutside(ctx context.Context, cfg Config, like docker.Found) (*docker.Container, error) {
	container, err := cfg.Engine.Run(ctx, docker.RunSpec{
		Name: cfg.Lab + "-verify-outside", Image: like.Image, Network: like.Network,
		Entrypoint: []string{"sleep", "infinity"},
		Labels:     map[string]string{ContainerLabel: cfg.Lab},
		CapAdd:     []string{"NET_ADMIN", "NET_RAW"},
	})
	if err != nil {
		return nil, fmt.Errorf("start the outside host: %w", err)
	}
	if err := cfg.Engine.WriteFile(ctx, container.ID, nettoolInContainer, 0o755, cfg.Nettool); err != nil {
		return nil, fmt.Errorf("put nettool on the outside host: %w", err)
	}
	return container, nil
}

// removeOutside removes the host outside of this run or of one that was interrupted.
func removeOutside(ctx context.Context, cfg Config) error {
	found, err := cfg.Engine.Containers(ctx, ContainerLabel+"="+cfg.Lab)
	if err != nil {
		return err
	}
	return verify.Each(found, func(c docker.Found) error { return cfg.Engine.RemoveContainer(ctx, c.ID) })
}

// removeFromNodes removes routes, rules and binaries of this run or of one that
// was interrupted. Nodes that do not run keep theirs until a run after that.
func removeFromNodes(ctx context.Context, cfg Config) error {
	nodes, err := cfg.Engine.Containers(ctx, kindLabel+"="+cfg.Lab)
	if err != nil {
		return err
	}
	return verify.Each(nodes, func(node docker.Found) error {
		if !node.Running {
			return nil
		}
		script := "ip route flush proto " + routeProtocol + "; rm -f " + nettoolInContainer + "; " + removeRulesScript(ruleComment)
		return command(ctx, cfg.Engine, node.Name, "sh", "-c", script)
	})
}

// addNative gives the outside host an address inside the native-routing CIDR,
// with routes between it and every pod by way of the pod's node.
func addNative(ctx context.Context, env *Env) error {
	native, ok := freeAddress(env.NativeCIDR, env.taken())
	if !ok {
		return nil
	}
	outside := []string{"ip addr add " + native.String() + "/32 dev eth0"}
	for _, node := range env.Nodes {
		outside = append(outside, fmt.Sprintf("ip route add %s via %s", node.PodCIDR, node.Addr))
	}
	errs := runOn(ctx, env.Outside, strings.Join(outside, " && "))
	errs = errors.Join(errs, verify.Each(env.Nodes, func(node *Node) error {
		return runOn(ctx, node.Peer, fmt.Sprintf("ip route add %s via %s proto %s", native, env.Outside.Addr, routeProtocol))
	}))
	if errs != nil {
		return fmt.Errorf("give the outside host an address inside %s: %w", env.NativeCIDR, errs)
	}
	env.Native = native
	return nil
}

// taken lists what an address of the outside host must not be in.
func (e *Env) taken() []netip.Prefix {
	taken := []netip.Prefix{e.ServiceCIDR}
	for _, node := range e.Nodes {
		taken = append(taken, node.PodCIDR, netip.PrefixFrom(node.Addr, 16).Masked())
	}
	return taken
}

// freeAddress returns an address of cidr that is in none of the taken
// prefixes, near the end of cidr.
func freeAddress(cidr netip.Prefix, taken []netip.Prefix) (netip.Addr, bool) {
	if !cidr.IsValid() || !cidr.Addr().Is4() {
		return netip.Addr{}, false
	}
	for addr := LastAddress(cidr).Prev(); cidr.Contains(addr); {
		in := netip.Prefix{}
		for _, prefix := range taken {
			if prefix.IsValid() && prefix.Contains(addr) {
				in = prefix
			}
		}
		if !in.IsValid() {
			return addr, true
		}
		addr = in.Masked().Addr().Prev()
	}
	return netip.Addr{}, false
}

// LastAddress is the highest address of an IPv4 prefix.
func LastAddress(prefix netip.Prefix) netip.Addr {
	b := prefix.Masked().Addr().As4()
	for bit := prefix.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}

// runOn runs a shell script on a peer.
func runOn(ctx context.Context, peer Peer, script string) error {
	_, err := Output(ctx, peer, "sh", "-c", script)
	return err
}

// Output runs a command on a peer and returns what it printed. A status other
// than 0 is an error.
func Output(ctx context.Context, peer Peer, argv ...string) (string, error) {
	reply, err := peer.Probe(ctx, probe.Request{Timeout: commandTimeout, Exec: &probe.Exec{Argv: argv}})
	if err != nil {
		return "", err
	}
	if reply.Exec.Code != 0 {
		return "", fmt.Errorf("%s: %q ended with status %d: %s", peer.Name, strings.Join(argv, " "), reply.Exec.Code, strings.TrimSpace(reply.Exec.Stderr))
	}
	return reply.Exec.Stdout, nil
}
