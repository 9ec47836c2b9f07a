package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/kubeconfig"
)

// What nodes need. Measured on a lab with its demo: a control plane uses 620 MB of memory and 960 MB of disk (its copy of
// the node image's /var and etcd's data), a worker 230 and 520 MB. The rest is for what people run.
const (
	mb               = 1 << 20
	memoryFirst      = 1024 * mb
	memoryEach       = 512 * mb
	diskFirst        = 2048 * mb
	diskEach         = 1024 * mb
	bytesOfKibibytes = 1024
)

func memory(d Doctor, m *machine, n Needs) Finding {
	f := Finding{Name: "memory", State: OK, Spent: true}
	need := int64(memoryFirst + memoryEach*max(0, n.Nodes-1))
	have, what := m.info.MemTotal, "in all"
	if m.local {
		if free, err := d.availableMemory(); err == nil {
			have, what = free, "available"
		}
	}
	f.Found = fmt.Sprintf("%d MB %s, %d MB needed for %d nodes", have/mb, what, need/mb, n.Nodes)
	if have < need {
		f.State, f.Mend = Missing, "end other programs or labs (lab list), or take fewer workers: --set cluster.workers=1"
	}
	return f
}

func (d Doctor) availableMemory() (int64, error) {
	b, err := os.ReadFile(filepath.Join(d.Root, "/proc/meminfo"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kb); err == nil {
			return kb * bytesOfKibibytes, nil
		}
	}
	return 0, errors.New("no MemAvailable in /proc/meminfo")
}

func (d Doctor) disk(m *machine, n Needs) Finding {
	f := Finding{Name: "disk", State: OK, Spent: true}
	var st unix.Statfs_t
	if err := unix.Statfs(m.info.DockerRootDir, &st); err != nil {
		f.State, f.Found, f.Mend = Unknown, fmt.Sprintf("cannot look at %s: %v", m.info.DockerRootDir, err), "run lab doctor as root"
		return f
	}
	have := int64(st.Bavail) * int64(st.Bsize) //nolint:gosec,unconvert // a disk's size; macOS has blocks' in 32 bits
	need := int64(diskFirst + diskEach*max(0, n.Nodes-1))
	f.Found = fmt.Sprintf("%d MB free in %s, %d MB needed", have/mb, m.info.DockerRootDir, need/mb)
	if have < need {
		f.State, f.Mend = Missing, "free some: docker system df shows what holds it, docker system prune removes what nobody uses"
	}
	return f
}

// port looks whether the API server's port is free by taking it for a moment.
func (d Doctor) port(n Needs) Finding {
	f := Finding{Name: "API server port", State: OK, Found: "any free one will do", Spent: true}
	if n.APIServerPort == 0 {
		return f
	}
	addr := fmt.Sprintf("127.0.0.1:%d", n.APIServerPort)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		f.State, f.Found = Missing, addr+" is taken"
		f.Mend = "set cluster.apiServerPort to a free port, or to 0 for any"
		if errors.Is(err, syscall.EACCES) {
			f.State, f.Found, f.Mend = Unknown, err.Error(), "run lab doctor as root, or take a port above 1023"
		}
		return f
	}
	f.Found = addr + " is free"
	if err := l.Close(); err != nil {
		f.State, f.Found, f.Mend = Unknown, err.Error(), "try again"
	}
	return f
}

// kubeconfigOf looks whether the lab's context can be put into its kubeconfig, by doing all of it but the last step.
func kubeconfigOf(ctx context.Context, n Needs) Finding {
	files, other := kubeconfig.FromEnv(), "set KUBECONFIG to another file"
	if n.Kubeconfig != "" {
		files, other = kubeconfig.Files{n.Kubeconfig}, "name another file with --kubeconfig"
	}
	f := Finding{Name: "kubeconfig", State: OK, Found: files.Target() + " can be read and written"}
	if err := files.Check(ctx, n.Context); err != nil {
		f.State, f.Found = Missing, strings.ReplaceAll(err.Error(), "\n", "; ")
		f.Mend = "mend or move away what is named, or " + other
	}
	return f
}

// subnets looks whether the Docker network of the nodes overlaps with the addresses pods and Services get: nodes would
// then take each other for pods.
func (d Doctor) subnets(ctx context.Context, e *docker.Engine, n Needs) []Finding {
	nets, err := e.Subnets(ctx, n.Network)
	if err != nil {
		return []Finding{{Name: "subnets", State: Unknown, Found: err.Error(), Mend: "look at docker network inspect " + n.Network}}
	}
	return []Finding{compareSubnets(n, nets)}
}

func compareSubnets(n Needs, nets []netip.Prefix) Finding {
	f := Finding{Name: "subnets", State: OK, Found: "network " + n.Network + " is yet to be made"}
	if len(nets) > 0 {
		f.Found = fmt.Sprintf("network %s has %s", n.Network, join(nets))
	}
	for _, net := range nets {
		for what, p := range map[string]netip.Prefix{n.PodSubnetKey: n.PodSubnet, "cluster.serviceSubnet": n.ServiceSubnet} {
			if p.IsValid() && net.Overlaps(p) {
				f.State, f.Found = Missing, fmt.Sprintf("network %s has %s, which overlaps with %s %s", n.Network, net, what, p)
				f.Mend = fmt.Sprintf("set %s to another range, or remove the network when no cluster is on it: docker network rm %s", what, n.Network)
				return f
			}
		}
	}
	return f
}

func join(ps []netip.Prefix) string {
	s := make([]string, len(ps))
	for i, p := range ps {
		s[i] = p.String()
	}
	return strings.Join(s, ", ")
}
