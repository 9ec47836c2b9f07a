package agent

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/netnstest"
)

// soon is when a fault has to be mended that the kernel tells of: a second,
// and some more where tests share a machine. The look now and then that would
// mend it in any case comes after 48 s at the earliest.
const soon = 5 * time.Second

// mendedSoon waits until there is nothing amiss any more.
func mendedSoon(t *testing.T, amiss func() string) {
	t.Helper()
	began := time.Now()
	for what := amiss(); what != ""; what = amiss() {
		if time.Since(began) > soon {
			t.Fatalf("not mended after %v: %s", soon, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Logf("mended after %v", time.Since(began).Round(time.Millisecond))
}

// damage is done to a running node, and mended says what of it is left.
type damage struct {
	do    func()
	amiss func() string // what is wrong; empty: nothing
	modes string        // the mode it can be done in; empty: any
}

const (
	inKubeProxy = "k"
	inEBPF      = "e"
)

// lacks says that text has no such part.
func lacks(text, part string) string {
	if strings.Contains(text, part) {
		return ""
	}
	return fmt.Sprintf("no %q in %q", part, text)
}

// TestFaultsAreMendedAtOnce damages what the agent keeps on its node, with no
// event in the cluster to wake it.
func TestFaultsAreMendedAtOnce(t *testing.T) {
	netnstest.RequireRoot(t)
	for mode, set := range map[string]func(*testNode){
		inKubeProxy: func(*testNode) {},
		inEBPF: func(n *testNode) {
			n.cfg.KubeProxyReplacement, n.cfg.BPF.Masquerade = true, true
		},
	} {
		t.Run(mode, func(t *testing.T) {
			n := newTestNode(t)
			set(n)
			cgroup := netnstest.NewCgroup(t)
			n.cfg.Paths.CgroupRoot = strings.Replace(cgroup.Path, "self", fmt.Sprint(os.Getpid()), 1)
			n.start()
			n.tell("node n2 192.0.2.200 10.99.2.0/24")
			pod := n.runtime().mustAdd("a", n.pod(0))
			veth := n.links("lxc")[0]
			route := func(dst, part string) func() string {
				return func() string { return lacks(n.Run("ip", "route", "show", dst), part) }
			}
			toOther := route("10.99.2.0/24", "via 192.0.2.200 dev eth0")
			toPods := route(testPodCIDR, "dev lab_host")
			mendedSoon(t, toOther)
			if mode == inKubeProxy {
				mendedSoon(t, func() string { return lacks(n.Run("iptables-save", "-t", "nat"), "-d 192.0.2.200/32") })
			}
			sysctl := func(path, bad, good string) damage {
				return damage{do: func() { n.Sysctl(path, bad) }, amiss: func() string {
					if got := n.ReadSysctl(path); got != good {
						return path + " is " + got
					}
					return ""
				}}
			}
			// detached is a link whose program somebody takes off.
			detached := func(pin string) damage {
				path := filepath.Join(n.BPFFS, "wirelab/links", pin)
				return damage{do: func() {
					l, err := link.LoadPinnedLink(path, nil)
					if err == nil {
						err = l.Detach()
						l.Close()
					}
					if err != nil {
						t.Fatal(err)
					}
				}, amiss: func() string {
					l, err := link.LoadPinnedLink(path, nil)
					if err != nil {
						return err.Error()
					}
					defer l.Close()
					info, err := l.Info()
					if err != nil {
						return err.Error()
					}
					if tcx := info.TCX(); tcx != nil && tcx.Ifindex == 0 {
						return "detached"
					}
					if c := info.Cgroup(); c != nil && c.CgroupId == 0 {
						return "detached"
					}
					return ""
				}}
			}
			chain := func(args ...string) damage {
				rules := func() string { // jumps may come back in another order
					lines := chains(n.Run("iptables-save", "-t", "nat"))
					slices.Sort(lines)
					return strings.Join(lines, "\n")
				}
				before := rules()
				return damage{modes: inKubeProxy, do: func() { n.Run(append([]string{"iptables", "-t", "nat"}, args...)...) }, amiss: func() string {
					if now := rules(); now != before {
						return "rules are\n" + now + "\nand were\n" + before
					}
					return ""
				}}
			}
			conf, bin := filepath.Join(n.cfg.Paths.CNIConfDir, cniConfName), filepath.Join(n.cfg.Paths.CNIBinDir, cniPluginName)
			file := func(path string, do func() error) damage {
				before, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				return damage{do: func() {
					if err := do(); err != nil {
						t.Fatal(err)
					}
				}, amiss: func() string {
					now, err := os.ReadFile(path)
					if err != nil {
						return err.Error()
					}
					if string(now) != string(before) {
						return path + " has another content"
					}
					return ""
				}}
			}
			run := func(command ...string) func() { return func() { n.Run(command...) } }
			damages := map[string]damage{
				"the NIC goes down and up": {do: func() {
					n.Run("ip", "link", "set", "eth0", "down")
					n.Run("ip", "link", "set", "eth0", "up")
				}, amiss: toOther},
				"the NIC's address goes and comes": {do: func() {
					n.Run("ip", "addr", "del", n.Addr.String()+"/24", "dev", "eth0")
					n.Run("ip", "addr", "add", n.Addr.String()+"/24", "dev", "eth0")
				}, amiss: func() string { return toOther() + toPods() }},
				"all routes by the NIC flushed": {do: func() {
					n.Run("ip", "route", "flush", "dev", "eth0")
					n.Run("ip", "route", "add", "192.0.2.0/24", "dev", "eth0", "src", n.Addr.String())
				}, amiss: toOther},
				"node route deleted":               {do: run("ip", "route", "del", "10.99.2.0/24"), amiss: toOther},
				"node route made another":          {do: run("ip", "route", "replace", "10.99.2.0/24", "via", "192.0.2.77", "proto", "87"), amiss: toOther},
				"route to pods deleted":            {do: run("ip", "route", "del", testPodCIDR), amiss: toPods},
				"router's address deleted":         {do: run("ip", "addr", "flush", "dev", "lab_host"), amiss: func() string { return lacks(n.Run("ip", "addr", "show", "dev", "lab_host"), "10.99.1.1/32") }},
				"lab_host down":                    {do: run("ip", "link", "set", "lab_host", "down"), amiss: func() string { return lacks(n.Run("ip", "link", "show", "lab_host"), "LOWER_UP") + toPods() }},
				"lab_host deleted":                 {do: run("ip", "link", "del", "lab_host"), amiss: func() string { return lacks(n.Run("ip", "-br", "link"), "lab_host@lab_net") + toPods() }},
				"a pod's veth down":                {do: run("ip", "link", "set", veth, "down"), amiss: func() string { return lacks(n.Run("ip", "link", "show", veth), "LOWER_UP") }},
				"a pod's neighbour deleted":        {do: run("ip", "neigh", "del", pod.String(), "dev", veth), amiss: func() string { return lacks(n.Run("ip", "neigh", "show", "dev", veth), pod.String()) }},
				"forwarding off":                   sysctl("net/ipv4/ip_forward", "0", "1"),
				"strict source filtering":          sysctl("net/ipv4/conf/all/rp_filter", "1", "0"),
				"source filtering on lab_host":     sysctl("net/ipv4/conf/lab_host/rp_filter", "1", "0"),
				"source filtering on a pod's veth": sysctl("net/ipv4/conf/"+veth+"/rp_filter", "2", "0"),
				"forwarding off on lab_host":       sysctl("net/ipv4/conf/lab_host/forwarding", "0", "1"),
				"forwarding off on a pod's veth":   sysctl("net/ipv4/conf/"+veth+"/forwarding", "0", "1"),
				"program off lab_host":             detached("lab_host"),
				"program off a pod's veth":         detached(veth),
				"link of a pod's veth unpinned":    removed(filepath.Join(n.BPFFS, "wirelab/links", veth)),
				"chain flushed":                    chain("-F", "LAB-MASQUERADE"),
				"jump deleted":                     chain("-D", "POSTROUTING", "1"),
				"nat table flushed":                chain("-F"),
				"rule added":                       chain("-I", "LAB-MASQUERADE", "-j", "RETURN"),
				"configuration removed":            file(conf, func() error { return os.Remove(conf) }),
				"configuration emptied":            file(conf, func() error { return os.Truncate(conf, 0) }),
				"plugin removed":                   file(bin, func() error { return os.Remove(bin) }),
				"configurations' directory gone": file(conf, func() error {
					return os.Rename(n.cfg.Paths.CNIConfDir, n.cfg.Paths.CNIConfDir+".old")
				}),
			}
			if mode == inEBPF {
				for _, pin := range []string{"eth0_in", "eth0_out", "sock_connect4", "sock_sendmsg4"} {
					damages["program off "+pin] = detached(pin)
				}
			}
			for name, d := range damages {
				if d.modes != "" && d.modes != mode {
					continue
				}
				t.Run(name, func(t *testing.T) {
					mendedSoon(t, d.amiss)
					d.do()
					mendedSoon(t, d.amiss)
				})
			}
			n.expectRest(t)
		})
	}
}

// removed is a file that somebody removes, and that has to be there.
func removed(path string) damage {
	return damage{do: func() { os.Remove(path) }, amiss: func() string { //nolint:errcheck // seen below
		if _, err := os.Stat(path); err != nil {
			return err.Error()
		}
		return ""
	}}
}

// TestPausedReconcilersDoNotMend holds that a fault stays as long as its
// reconciler is paused, that the status says so, and that it is mended after.
func TestPausedReconcilersDoNotMend(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	n.tell("node n2 192.0.2.200 10.99.2.0/24")
	amiss := func() string { return lacks(n.Run("ip", "route", "show", "10.99.2.0/24"), "via 192.0.2.200") }
	mendedSoon(t, amiss)
	c := client.New(n.cfg.Paths.AgentSocket())
	if _, err := c.Pause(t.Context(), time.Minute, "router"); err == nil || !strings.Contains(err.Error(), "routes") {
		t.Errorf("a reconciler that is not there: %v", err)
	}
	if _, err := c.Pause(t.Context(), 2*time.Hour, "routes"); err == nil || !strings.Contains(err.Error(), "1h") {
		t.Errorf("a pause that is too long: %v", err)
	}
	s, err := c.Pause(t.Context(), time.Minute, "routes")
	if err != nil {
		t.Fatal(err)
	}
	if !s.Ready || !strings.Contains(strings.Join(s.Warnings, "\n"), "routes (until") {
		t.Errorf("the status is %v and warns of %q", s.Ready, s.Warnings)
	}
	n.Run("ip", "route", "del", "10.99.2.0/24")
	for range 20 {
		if amiss() == "" {
			t.Fatal("a paused reconciler has mended it")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if s, err = c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(s.Warnings, "\n"), "paused") {
		t.Errorf("after the pause the status warns of %q", s.Warnings)
	}
	mendedSoon(t, amiss)
}

// expectRest holds that the agent does not go on to be woken by what it has
// mended itself.
func (n *testNode) expectRest(t *testing.T) {
	t.Helper()
	runs := func() map[string]uint64 {
		all := map[string]uint64{}
		for _, r := range n.status().Reconcilers {
			all[r.Name] = r.Runs
		}
		return all
	}
	eventually(t, "the agent comes to rest", func() bool {
		before := runs()
		time.Sleep(1500 * time.Millisecond)
		after := runs()
		for name, now := range after {
			if name != "flows" && now != before[name] {
				return false
			}
		}
		return len(after) > 0
	})
}

// TestNewAddressesServeNodePortsAtOnce gives the node an address after its
// Services are there, and takes it away.
func TestNewAddressesServeNodePortsAtOnce(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newServiceNode(t)
	n.tell("nodeport %s 30080", n.vip.Addr())
	n.tell("endpoints %s", strings.Join(n.backends, " "))
	eventually(t, "the Service answers", n.answers)
	later := netip.MustParseAddr("192.0.2.180")
	served := func() bool {
		s := n.status()
		return s.Datapath != nil && strings.Contains(fmt.Sprint(n.frontends()), later.String())
	}
	if served() {
		t.Fatal("an address is served that the node does not have")
	}
	n.Run("ip", "addr", "add", later.String()+"/32", "dev", "eth0")
	mendedSoon(t, func() string {
		if !served() {
			return "no frontend has the new address"
		}
		return ""
	})
	n.Run("ip", "addr", "del", later.String()+"/32", "dev", "eth0")
	mendedSoon(t, func() string {
		if served() {
			return "the frontend of the address is still there"
		}
		return ""
	})
}
