package datapath_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
)

const (
	reservedSysctl = "net/ipv4/ip_local_reserved_ports"
	rangeSysctl    = "net/ipv4/ip_local_port_range"
)

// manyPorts is a list of every other port from 1025 on, which no range makes shorter.
func manyPorts() string {
	var list []string
	for p := 1025; p < 20000; p += 2 {
		list = append(list, fmt.Sprint(p))
	}
	return strings.Join(list, ",")
}

// reservedAll is the whole value; a kernel gives no more than is asked for.
func (n *node) reservedAll() (value string) {
	n.Do(func() {
		var err error
		value, err = datapath.ReadSysctl(reservedSysctl)
		must(n.t, err)
	})
	return value
}

// Ports that somebody has reserved before, few or thousands, stay reserved, and are all there after cleaning.
func TestReservedPortsOfOthers(t *testing.T) {
	for name, found := range map[string]string{
		"none":            "",
		"a usual list":    "6443,10250,10256-10259,30000-32767",
		"exactly a piece": "11,10001,10003,10005,10007,10009",
		"next to ours":    "49151",
		"a part of ours":  "49152-50000",
		"all of ours":     "49152-65535",
		"thousands":       manyPorts(),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1)
			n := l.nodes[0]
			n.close()
			n.Sysctl(reservedSysctl, found+"\n")
			before := n.reservedAll()
			if before != found {
				t.Fatalf("reserved are %.80s, not %.80s", before, found)
			}
			replacement(&n.cfg)
			n.open()
			during := n.reservedAll()
			reserved := portsOf(t, during)
			for _, port := range []int{49152, 60000, 65535} {
				if !reserved[port] {
					t.Errorf("%d is not reserved: %.200s", port, during)
				}
			}
			for _, part := range strings.FieldsFunc(found, func(r rune) bool { return r == ',' || r == '-' }) {
				port, err := strconv.Atoi(part)
				must(t, err)
				if !reserved[port] {
					t.Fatalf("%d is not reserved any more: %.200s", port, during)
				}
			}
			n.close()
			n.open() // again, by another process
			n.Do(func() {
				for range 3 {
					must(t, n.dp.Sysctls().Apply(ctx(t)))
				}
				s, err := n.dp.Status(ctx(t))
				must(t, err)
				for _, sysctl := range s.Sysctls {
					if strings.Contains(sysctl.Name, "reserved") && during != before && sysctl.Found != found {
						t.Errorf("the status says that %.100q was found", sysctl.Found)
					}
				}
			})
			if again := n.reservedAll(); again != during {
				t.Errorf("another look has changed it from %.200s to %.200s", during, again)
			}
			n.close()
			n.Do(func() { must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: n.BPFFS}, logger(t))) })
			if after := n.reservedAll(); after != before {
				t.Errorf("after cleaning %.200s, before %.200s", after, before)
			}
		})
	}
}

// portsOf are those that a list has.
func portsOf(t *testing.T, list string) map[int]bool {
	t.Helper()
	ports := map[int]bool{}
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.Atoi(first)
		must(t, err)
		high, err := strconv.Atoi(last)
		must(t, err)
		for p := low; p <= high; p++ {
			ports[p] = true
		}
	}
	return ports
}

// What others reserve while the node runs stays when it is cleaned.
func TestReservedPortsChangeMeanwhile(t *testing.T) {
	n := newLab(t, 1, replacement).nodes[0]
	n.Sysctl(reservedSysctl, n.reservedAll()+",7000")
	n.Do(func() { must(t, n.dp.Sysctls().Apply(ctx(t))) })
	n.Sysctl(reservedSysctl, "7000,7001") // somebody who does not look at what is there
	n.Do(func() { must(t, n.dp.Sysctls().Apply(ctx(t))) })
	if got := n.reservedAll(); got != "7000-7001,49152-65535" {
		t.Errorf("reserved are %s", got)
	}
	n.close()
	n.Do(func() { must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: n.BPFFS}, logger(t))) })
	if got := n.reservedAll(); got != "7000-7001" {
		t.Errorf("after cleaning reserved are %s", got)
	}
}

// A node whose own connections have their ports where flows usually do keeps them, and both work.
func TestEphemeralPortsAreLeft(t *testing.T) {
	for local, nat := range map[string]string{
		"32768\t60999": "49152-65535", // the kernel's own
		"1024\t65535":  "49152-65535",
		"49152\t65535": "32768-49151", // IANA's
		"50000\t50100": "32768-49151",
		"40000\t65535": "32768-49151",
	} {
		t.Run(local, func(t *testing.T) {
			l := newLab(t, 2)
			n := l.nodes[0]
			n.close()
			n.Sysctl(rangeSysctl, local)
			routed(&n.cfg)
			n.open()
			l.reconcile()
			at := netip.AddrPortFrom(l.outside.Addr, port)
			l.outside.ServeTCP(at)
			if seen, err := n.Host.Ask("tcp4", at, []byte("x")); err != nil || seen != n.Host.Addr {
				t.Errorf("the node's own connection: seen as %s, %v", seen, err)
			}
			p := n.addPod("p")
			c, err := p.Dial("tcp4", at)
			must(t, err)
			defer c.Close()
			buf := make([]byte, 64)
			size, err := c.Read(buf)
			must(t, err)
			var low, high uint16
			must(t, second(fmt.Sscanf(nat, "%d-%d", &low, &high)))
			if seen, err := netip.ParseAddrPort(strings.TrimSpace(string(buf[:size]))); err != nil || seen.Addr() != n.Host.Addr || seen.Port() < low || seen.Port() > high {
				t.Errorf("the pod is seen as %s, %v; flows have %s", seen, err, nat)
			}
			n.Do(func() {
				s, err := n.dp.Status(ctx(t))
				must(t, err)
				if s.Services.NATPorts != nat {
					t.Errorf("the status says that flows have %s, want %s", s.Services.NATPorts, nat)
				}
			})
		})
	}
}

// A host port among the ports that the node's sockets are given is reserved as long as there is one.
func TestHostPortsAreReserved(t *testing.T) {
	n := newLab(t, 1, replacement).nodes[0]
	b := n.addPod("b")
	apply := func(ports ...uint16) string {
		var list []lb.HostPort
		for _, p := range ports {
			list = append(list, lb.HostPort{Proto: "tcp", Port: p, Backend: b.at(port)})
		}
		n.balance(lb.State{HostPorts: list})
		n.Do(func() { must(t, n.dp.Sysctls().Apply(ctx(t))) })
		return n.reservedAll()
	}
	if got := apply(40000, 8080); got != "40000,49152-65535" {
		t.Errorf("with a host port reserved are %s", got)
	}
	if got := apply(); got != "49152-65535" {
		t.Errorf("without a host port reserved are %s", got)
	}
}

// What an agent before remembered, in a map with less room, is remembered still.
func TestRememberedSysctlsGrow(t *testing.T) {
	l := newLab(t, 1)
	n := l.nodes[0]
	n.close()
	path := filepath.Join(n.BPFFS, "wirelab/maps/lab_sysctls")
	n.Do(func() { must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: n.BPFFS}, logger(t))) })
	replacement(&n.cfg)
	n.open()
	n.close()
	old, err := ebpf.NewMap(&ebpf.MapSpec{Name: "lab_sysctls", Type: ebpf.Hash, KeySize: 64, ValueSize: 32, MaxEntries: 64})
	must(t, err)
	defer old.Close()
	var key [64]byte
	var value [32]byte
	copy(key[:], reservedSysctl)
	copy(value[:], "8080")
	must(t, old.Put(key, value))
	must(t, datapath.Replace(path, old))
	n.Sysctl(reservedSysctl, "8080,49152-65535")
	n.open()
	n.close()
	n.Do(func() { must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: n.BPFFS}, logger(t))) })
	if got := n.reservedAll(); got != "8080" {
		t.Errorf("after an upgrade and cleaning reserved are %s", got)
	}
}
