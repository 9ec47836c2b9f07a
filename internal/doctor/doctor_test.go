package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/moby/moby/api/types/system"

	"wirelab.dev/wirelab/internal/docker"
)

// doctorOf is a doctor for a machine whose /proc holds these files.
func doctorOf(t *testing.T, files map[string]string) Doctor {
	t.Helper()
	d := Doctor{Root: t.TempDir()}
	for name, content := range files {
		p := filepath.Join(d.Root, "proc", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func check(t *testing.T, f Finding, state State, found string) {
	t.Helper()
	if f.State != state || !strings.Contains(f.Found, found) {
		t.Errorf("%+v, want %s with %q", f, state, found)
	}
	if (f.State == OK) != (f.Mend == "") {
		t.Errorf("%+v: what is not ok, and only that, has a way to mend it", f)
	}
}

func TestInotify(t *testing.T) {
	const key = "sys/fs/inotify/max_user_instances"
	three := Needs{Nodes: 3}
	check(t, doctorOf(t, map[string]string{key: "128\n"}).inotify(three)[0], Missing, "128 of 192")
	check(t, doctorOf(t, map[string]string{key: "512\n"}).inotify(three)[0], OK, "512 of 192")
	check(t, doctorOf(t, nil).inotify(three)[0], Unknown, "max_user_instances")
	check(t, doctorOf(t, map[string]string{key: "many\n"}).inotify(three)[0], Unknown, "")
}

func TestMemory(t *testing.T) {
	with := func(kb int) Doctor {
		return doctorOf(t, map[string]string{"meminfo": fmt.Sprintf("MemTotal: 99999999 kB\nMemAvailable: %d kB\n", kb)})
	}
	m := &machine{local: true, info: system.Info{MemTotal: 64 << 30}}
	check(t, memory(with(8<<20), m, Needs{Nodes: 3}), OK, "8192 MB available")
	check(t, memory(with(1<<20), m, Needs{Nodes: 3}), Missing, "1024 MB available, 2048 MB needed")
	check(t, memory(with(1<<20), m, Needs{Nodes: 1}), OK, "")
	// On another machine only the engine's word counts.
	check(t, memory(with(1), &machine{info: system.Info{MemTotal: 8 << 30}}, Needs{Nodes: 3}), OK, "8192 MB in all")
}

func TestPrivilege(t *testing.T) {
	status := func(bound string) Doctor {
		return doctorOf(t, map[string]string{"1/status": "Name:\tinit\nCapBnd:\t" + bound + "\n"})
	}
	runc := &machine{info: system.Info{DefaultRuntime: "runc"}}
	check(t, status("000001ffffffffff").privilege(runc), OK, "all capabilities")
	check(t, status("000001fffeffffff").privilege(runc), Missing, "CAP_SYS_RESOURCE")
	check(t, status("000001fffeffffff").privilege(&machine{info: system.Info{DefaultRuntime: "wirelab"}}), OK, "does without")
	check(t, status("???").privilege(runc), Unknown, "CapBnd")
	check(t, doctorOf(t, nil).privilege(runc), Unknown, "status")
}

func TestBPFFS(t *testing.T) {
	check(t, doctorOf(t, map[string]string{"filesystems": "nodev\tsysfs\nnodev\tbpf\n\text4\n"}).bpffs(), OK, "")
	check(t, doctorOf(t, map[string]string{"filesystems": "nodev\tsysfs\n"}).bpffs(), Missing, "")
}

func TestCgroup2(t *testing.T) {
	check(t, doctorOf(t, map[string]string{"filesystems": "nodev\tcgroup\nnodev\tcgroup2\n"}).cgroup2(), OK, "")
	check(t, doctorOf(t, map[string]string{"filesystems": "nodev\tcgroup\n"}).cgroup2(), Missing, "not in /proc/filesystems")
}

// TestLacking: a refusal names what the kernel lacks.
func TestLacking(t *testing.T) {
	if got := lacking(fmt.Errorf("probe: %w", lack{what: "hook cgroup/connect4", err: ebpf.ErrNotSupported})); got != "this kernel has no hook cgroup/connect4" {
		t.Error(got)
	}
	if got := lacking(ebpf.ErrNotSupported); got != "this kernel has none" {
		t.Error(got)
	}
	// No kernel gives a program at sockets what changes packets.
	err := haveHelpers(ebpf.CGroupSockAddr, asm.FnGetSocketCookie, asm.FnSkbAdjustRoom)
	if os.Geteuid() == 0 && (!errors.Is(err, ebpf.ErrNotSupported) || !strings.Contains(lacking(err), "SkbAdjustRoom")) {
		t.Errorf("a helper that is not there: %v", err)
	}
}

func TestCgroups(t *testing.T) {
	check(t, cgroups(&machine{info: system.Info{CgroupVersion: "2", MemoryLimit: true, CPUShares: true, PidsLimit: true}}), OK, "version 2")
	check(t, cgroups(&machine{info: system.Info{CgroupVersion: "1", CPUShares: true, PidsLimit: true}}), Missing, "without controller memory")
}

func TestSubnets(t *testing.T) {
	n := Needs{
		Network: "kind", PodSubnetKey: "cluster.podSubnet", PodSubnet: netip.MustParsePrefix("10.244.0.0/16"), ServiceSubnet: netip.MustParsePrefix("10.96.0.0/16"),
	}
	nets := func(s ...string) (out []netip.Prefix) {
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	check(t, compareSubnets(n, nets("172.18.0.0/16", "fc00::/64")), OK, "172.18.0.0/16")
	check(t, compareSubnets(n, nil), OK, "yet to be made")
	check(t, compareSubnets(n, nets("10.244.7.0/24")), Missing, "podSubnet")
	check(t, compareSubnets(n, nets("10.0.0.0/8")), Missing, "overlaps")
	check(t, compareSubnets(n, nets("10.96.0.0/12")), Missing, "serviceSubnet")
}

func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := Needs{APIServerPort: l.Addr().(*net.TCPAddr).Port}
	check(t, Doctor{}.port(taken), Missing, "is taken")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, Doctor{}.port(taken), OK, "is free")
	check(t, Doctor{}.port(Needs{}), OK, "any")
}

func TestOlder(t *testing.T) {
	for v, want := range map[string]bool{"1.40": true, "1.41": false, "1.9": true, "2.0": false, "x": false} {
		if older(v, 1, 41) != want {
			t.Errorf("%s older than 1.41: %v", v, !want)
		}
	}
}

func TestWithoutDocker(t *testing.T) {
	found := Doctor{}.Examine(t.Context(), nil, fmt.Errorf("%w: no permission", docker.ErrDenied), Needs{Nodes: 3})
	check(t, found[0], Missing, "no permission")
	if !strings.Contains(found[0].Mend, "root") || Worst(found) != Missing {
		t.Errorf("%+v", found[0])
	}
	if len(found) < 5 {
		t.Errorf("%d findings: what needs no Docker was not looked at", len(found))
	}
}

func TestWorst(t *testing.T) {
	if Worst([]Finding{{State: OK}, {State: Unknown}}) != OK || Worst([]Finding{{State: OK}, {State: Missing}}) != Missing {
		t.Error("unknown stops nobody, missing does")
	}
}

// TestKernel tries the kernel at hand; root can tell every feature, others may be told that they may not try.
func TestKernel(t *testing.T) {
	found := append((Doctor{}).kernel(Needs{KubeProxyReplacement: true, Tunnel: "vxlan"}), (Doctor{}).kernel(Needs{Tunnel: "geneve"})...)
	for _, f := range found {
		if f.State == Unknown && os.Geteuid() == 0 {
			t.Errorf("root cannot tell: %+v", f)
		}
		if f.State == OK && f.Mend != "" {
			t.Errorf("%+v", f)
		}
		if f.State == Missing && strings.HasSuffix(f.Name, " devices") && (f.Found != "this kernel has no "+f.Name || !strings.Contains(f.Mend, "network.tunnelProtocol")) {
			t.Errorf("%+v does not name what is missing and the way out", f)
		}
	}
}

func TestKubeconfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "config"))
	check(t, kubeconfigOf(t.Context(), Needs{}), OK, filepath.Join(dir, "config"))
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte("clusters: no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, kubeconfigOf(t.Context(), Needs{}), Missing, "parse "+filepath.Join(dir, "config"))
	// Who names a file is not kept by the user's.
	check(t, kubeconfigOf(t.Context(), Needs{Kubeconfig: filepath.Join(dir, "mine")}), OK, filepath.Join(dir, "mine"))
	f := kubeconfigOf(t.Context(), Needs{Kubeconfig: dir})
	check(t, f, Missing, "read "+dir)
	if !strings.Contains(f.Mend, "--kubeconfig") {
		t.Errorf("%+v does not say what to do", f)
	}
}
