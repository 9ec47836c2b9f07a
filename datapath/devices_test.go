package datapath_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// second is a host on a network of its own with the node, which the node may have other NICs on.
func (n *node) second(nodeAddr, hostAddr string) *netnstest.NS {
	n.t.Helper()
	host := netnstest.New(n.t, "second")
	netnstest.Connect(n.NS, "eth1", host, "eth0")
	n.AddAddr("eth1", netip.MustParsePrefix(nodeAddr))
	host.AddAddr("eth0", netip.MustParsePrefix(hostAddr))
	return host
}

func (n *node) applyDevices() (err error) {
	n.Do(func() { err = n.dp.Devices().Apply(ctx(n.t)) })
	return err
}

// nicLinks are the pinned links of NICs.
func (n *node) nicLinks() (names []string) {
	for _, p := range pinned(filepath.Join(n.BPFFS, "wirelab/links")) {
		if name := filepath.Base(p); strings.HasSuffix(name, "_in") || strings.HasSuffix(name, "_out") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// A NIC that the node gets later carries Services and masquerades, as long as it is there.
func TestSecondNIC(t *testing.T) {
	for name, mode := range map[string]setup{"replacement": replacement, "ebpf": routed} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 2, mode)
			n, other := l.nodes[0], l.nodes[1]
			client, here, there := n.addPod("client"), n.addPod("here"), other.addPod("there")
			sign(t, here.NS, there.NS)
			host := n.second("198.51.100.1/24", "198.51.100.2/24")
			must(t, n.applyDevices())
			if got := n.dp.Config().Devices; !slices.Equal(got, []string{"eth0", "eth1"}) {
				t.Fatalf("devices are %v", got)
			}
			hostAddr := netip.MustParseAddrPort("198.51.100.2:9000")
			host.ServeTCP(hostAddr)
			seen, err := client.Ask("tcp4", hostAddr, []byte("x"))
			if err != nil || seen != netip.MustParseAddr("198.51.100.1") {
				t.Errorf("a pod is seen by the second NIC's network as %s, %v", seen, err)
			}
			state := func(to *pod, on *node) lb.State {
				return lb.State{Services: both(withNodePort(demo(ready(to, on))))}
			}
			for _, backend := range []struct {
				pod *pod
				on  *node
			}{{here, n}, {there, other}} {
				for _, each := range l.nodes {
					each.balance(state(backend.pod, backend.on))
				}
				who, err := whoAt(t, host, "tcp4", netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), nodePort))
				if err != nil || who != backend.pod.NS.Name {
					t.Errorf("NodePort at the second NIC, backend %s: %q, %v", backend.pod.NS.Name, who, err)
				}
			}
			n.Do(func() {
				s, err := n.dp.Status(ctx(t))
				must(t, err)
				if !slices.Equal(s.Services.Devices, []string{"eth0", "eth1"}) {
					t.Errorf("the status has Services on %v", s.Services.Devices)
				}
			})
			n.Run("ip", "link", "del", "eth1")
			must(t, n.applyDevices())
			if got := n.nicLinks(); !slices.Equal(got, []string{"eth0_in", "eth0_out"}) {
				t.Errorf("after the second NIC is gone, links are %v", got)
			}
		})
	}
}

// NICs that are named are the only ones, and those that were, before, are left alone.
func TestOtherDevicesAreNamed(t *testing.T) {
	for name, clsact := range map[string]setup{"tcx": func(*datapath.Config) {}, "clsact": (*datapath.Config).ForceClsact} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, routed, clsact)
			n := l.nodes[0]
			n.second("198.51.100.1/24", "198.51.100.2/24")
			n.close()
			n.cfg.Devices = []string{"eth1"}
			n.open()
			running := func(device string) (list string) {
				n.Do(func() {
					s, err := n.dp.Status(ctx(t))
					must(t, err)
					for _, p := range s.Programs {
						if slices.Contains(p.AttachedTo, device) {
							list += p.Name + " "
						}
					}
				})
				return list + n.Run("tc", "filter", "show", "dev", device, "ingress") + n.Run("tc", "filter", "show", "dev", device, "egress")
			}
			if got := running("eth0"); got != "" {
				t.Errorf("the NIC that is not named any more runs %s", got)
			}
			if got := running("eth1"); !strings.Contains(got, "lab_from_network") || !strings.Contains(got, "lab_to_network") {
				t.Errorf("the named NIC runs %q", got)
			}
			if name == "tcx" && !slices.Equal(n.nicLinks(), []string{"eth1_in", "eth1_out"}) {
				t.Errorf("links are %v", n.nicLinks())
			}
		})
	}
}

// A NIC that gets another name, and one that takes the place of another, keep their programs.
func TestNICsChange(t *testing.T) {
	l := newLab(t, 1, routed)
	n := l.nodes[0]
	client := n.addPod("client")
	hostAddr := netip.MustParseAddrPort("198.51.100.2:9000")
	host := n.second("198.51.100.1/24", "198.51.100.2/24")
	must(t, n.applyDevices())
	host.ServeTCP(hostAddr)
	ask := func(when string) {
		t.Helper()
		must(t, n.applyDevices())
		if seen, err := client.Ask("tcp4", hostAddr, []byte("x")); err != nil || seen != netip.MustParseAddr("198.51.100.1") {
			t.Errorf("%s: a pod is seen as %s, %v", when, seen, err)
		}
	}
	ask("at first")
	n.Run("ip", "link", "set", "eth1", "down")
	n.Run("ip", "link", "set", "eth1", "name", "lan1")
	n.Run("ip", "link", "set", "lan1", "up")
	ask("with another name")
	if got := n.nicLinks(); !slices.Equal(got, []string{"eth0_in", "eth0_out", "lan1_in", "lan1_out"}) {
		t.Errorf("links are %v", got)
	}
	n.Run("ip", "link", "del", "lan1")
	netnstest.Connect(n.NS, "lan1", host, "eth1")
	n.AddAddr("lan1", netip.MustParsePrefix("198.51.100.1/24"))
	host.AddAddr("eth1", netip.MustParsePrefix("198.51.100.2/24"))
	ask("another NIC with the name")
}

// tun makes a device of packets without headers, up until the test ends.
func (n *node) tun(name, addr string) *os.File {
	n.t.Helper()
	ifr, err := unix.NewIfreq(name)
	must(n.t, err)
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	fd := -1
	n.Do(func() { // it is the namespace's that opens it
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		must(n.t, err)
		must(n.t, unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr))
	})
	f := os.NewFile(uintptr(fd), name)
	n.t.Cleanup(func() { f.Close() })
	n.AddAddr(name, netip.MustParsePrefix(addr))
	n.Run("ip", "link", "set", name, "up")
	return f
}

// What has no Ethernet header is refused where it is named, and left out where it is found; packets of pods
// that leave by it are the stack's.
func TestDevicesWithoutEthernet(t *testing.T) {
	l := newLab(t, 1, routed)
	n := l.nodes[0]
	tun := n.tun("tun7", "198.51.100.1/24")
	must(t, n.applyDevices())
	if got := n.dp.Config().Devices; !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("devices are %v", got)
	}
	n.Do(func() {
		if said := fmt.Sprint(n.dp.LeftOut()); !strings.Contains(said, "tun7 has no Ethernet header") {
			t.Errorf("of what is left out it is said: %s", said)
		}
	})
	p := n.addPod("p")
	c, err := p.Dial("udp4", netip.MustParseAddrPort("198.51.100.2:9000"))
	must(t, err)
	defer c.Close()
	must(t, second(c.Write([]byte("hello"))))
	must(t, tun.SetReadDeadline(time.Now().Add(netnstest.ProbeTimeout)))
	packet := make([]byte, 2000)
	size, err := tun.Read(packet)
	must(t, err)
	if ip := packet[:size]; size != 20+8+5 || ip[0] != 0x45 || netip.AddrFrom4([4]byte(ip[12:16])) != p.Addr || !strings.HasSuffix(string(ip), "hello") {
		t.Errorf("what a pod sends into the tunnel is %x", ip)
	}
	n.close()
	for name, why := range map[string]string{"tun7": "tun7 has no Ethernet header", "lo": "lo does not lead out of the node"} {
		cfg := n.cfg
		cfg.Devices = []string{"eth0", name}
		n.Do(func() {
			dp, err := datapath.Open(ctx(t), cfg, logger(t))
			if err == nil {
				dp.Close()
			}
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("devices with %s: %v", name, err)
			}
		})
	}
}

// The MTU follows the NIC's: what is sent to pods, and pods that come later.
func TestMTUFollowsTheNIC(t *testing.T) {
	for name, mode := range map[string]setup{"kubeproxy": func(*datapath.Config) {}, "replacement": replacement, "ebpf": routed} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, mode)
			n := l.nodes[0]
			old := n.addPod("old")
			n.Run("ip", "link", "set", "eth0", "mtu", "1400")
			must(t, n.applyDevices())
			if got := n.dp.Config().MTU; got != 1400 {
				t.Errorf("the MTU is %d", got)
			}
			if got := n.Run("ip", "link", "show", "lab_host"); !strings.Contains(got, "mtu 1400") {
				t.Errorf("lab_host: %s", got)
			}
			young := n.addPod("young")
			if young.MTU != 1400 {
				t.Errorf("a new pod has an MTU of %d", young.MTU)
			}
			must(t, second(old.Ping(young.Addr, netnstest.PingOptions{})))
			must(t, second(old.Ping(l.outside.Addr, netnstest.PingOptions{Size: 1300})))
			n.Do(func() {
				must(t, n.dp.CheckEndpoint(ctx(t), young.spec))
				must(t, n.dp.CheckEndpoint(ctx(t), old.spec))
			})
			n.Run("ip", "link", "set", "eth0", "mtu", "1500")
			must(t, n.applyDevices())
			if third := n.addPod("third"); third.MTU != 1500 {
				t.Errorf("a pod that came after the MTU has grown has one of %d", third.MTU)
			}
		})
	}
}
