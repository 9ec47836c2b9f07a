// Package doctor looks whether this machine can run a lab, and says how to mend what is missing. It tries things where
// it can and asks for versions only where it cannot; what it may not try is an honest unknown.
package doctor

import (
	"context"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/internal/docker"
)

// State is how a requirement stands.
type State string

// Missing stops lab up; Unknown does not.
const (
	OK      State = "ok"
	Missing State = "missing"
	Unknown State = "unknown"
)

// Finding is one requirement and what was found.
type Finding struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Found is what the machine has, or why that is not known.
	Found string `json:"found"`
	// Mend says what to do; empty when State is OK.
	Mend string `json:"mend,omitempty"`
	// Spent is set for what a lab that is up has taken already: its port, memory, disk.
	Spent bool `json:"-"`
}

// Needs are what a lab asks of the machine.
type Needs struct {
	Nodes int
	// PodSubnetKey is the setting that PodSubnet comes from.
	PodSubnetKey  string
	PodSubnet     netip.Prefix
	ServiceSubnet netip.Prefix
	// APIServerPort is the port on the loopback to be free; 0: any.
	APIServerPort int
	// Network is the Docker network the nodes will be on; it may not exist yet.
	Network string
	// Context is the name of the lab's context; empty: that of no lab yet.
	Context string
	// Kubeconfig is the file that gets it; empty: the user's kubeconfig.
	Kubeconfig string
	// KubeProxyReplacement is set when BPF maps are to serve Services.
	KubeProxyReplacement bool
	// Tunnel is the protocol of that between the nodes; empty when there is none.
	Tunnel string
}

// Doctor looks at one machine. Its zero value looks at this one; tests set Root.
type Doctor struct {
	// Root goes before /proc and /sys.
	Root string
}

// Examine looks at everything. engine is nil when Docker could not be reached, and connectErr says why then. The findings
// are in a fixed order.
func (d Doctor) Examine(ctx context.Context, engine *docker.Engine, connectErr error, n Needs) []Finding {
	out := []Finding{d.dockerCommand(), kubeconfigOf(ctx, n)}
	if engine == nil {
		out = append([]Finding{dockerMissing(connectErr)}, out...)
		out = append(out, d.kernel(n)...)
		return append(out, d.inotify(n)...)
	}
	m, found := d.dockerMachine(ctx, engine)
	out = append(found, out...)
	if m == nil {
		return out
	}
	if m.local {
		out = append(out, d.kernel(n)...)
		out = append(out, d.privilege(m), d.bpffs())
		if n.KubeProxyReplacement {
			out = append(out, d.cgroup2())
		}
		out = append(out, d.disk(m, n))
		out = append(out, d.inotify(n)...)
	} else {
		out = append(out, Finding{
			Name: "kernel features", State: Unknown, Found: "docker runs on another machine (kernel " + m.info.KernelVersion + ")",
			Mend: "run lab doctor there, or look for kernel 6.6 or newer with BTF, which a lab needs",
		})
	}
	out = append(out, memory(d, m, n), cgroups(m), d.port(n))
	return append(out, d.subnets(ctx, engine, n)...)
}

// Worst is Missing if any finding is, else OK: what is unknown stops nobody.
func Worst(fs []Finding) State {
	if slices.ContainsFunc(fs, func(f Finding) bool { return f.State == Missing }) {
		return Missing
	}
	return OK
}
