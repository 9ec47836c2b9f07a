package datapath

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
)

// hops is how often a program can route one packet.
const hops = 250

// routedCost is what one packet takes in a test run that every time lowers its TTL: the least of many.
func (m *model) routedCost(s stage, frame []byte, want uint32) time.Duration {
	m.t.Helper()
	best := time.Hour
	m.ns.Do(func() {
		for range 400 {
			opts := m.testRun(s.ifindex, frame)
			opts.Repeat = hops
			start := time.Now()
			verdict, err := s.prog.Run(opts)
			best = min(best, time.Since(start)/hops)
			m.must(err)
			if verdict != want {
				m.t.Fatalf("verdict %d, want %d", int32(verdict), int32(want))
			}
		}
	})
	return best
}

// BenchmarkRouting reports what packets of flows that are established take where BPF routes, beside a
// program that does nothing, and how large the programs are.
func BenchmarkRouting(b *testing.B) {
	m := newModelWith(b, inBPF)
	m.ns.Run("ip", "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:99", "dev", "eth0")
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	m.must(err)
	defer empty.Close()
	pod, nic := stage{m.d.progs.fromPod, m.ifindex(m.local[0])}, stage{m.d.progs.services.fromNetwork, m.nic()}
	out := stage{m.d.progs.services.toNetwork, m.nic()}
	client, peer := netip.AddrPortFrom(m.local[0], 40001), netip.AddrPortFrom(m.outside[2], 80)
	outside := netip.MustParseAddrPort("192.0.2.77:80")
	long := func(src, dst end) []byte {
		frame := packet(layers.IPProtocolTCP, src, dst, ackFlag)
		return edit(b, frame, func(ip *layers.IPv4) { ip.TTL = 255 })
	}
	for _, c := range []struct {
		name  string
		at    stage
		frame []byte
		want  uint32
	}{
		{"from pod to a pod elsewhere", pod, long(client, peer), actRedirect},
		{"from pod to a pod beside it", pod, long(client, netip.AddrPortFrom(m.local[1], 80)), actRedirect},
		{"from pod to the outside", pod, long(client, outside), actRedirect},
		{"from NIC to a pod", nic, long(peer, client), actRedirect},
		{"out of NIC, not marked", out, long(client, peer), actNext},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
			}
			none := m.routedCost(stage{empty, c.at.ifindex}, c.frame, 0)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(m.routedCost(c.at, c.frame, c.want)-none), "ns/packet")
			b.ReportMetric(float64(none), "ns/empty")
		})
	}
	for name, prog := range map[string]*ebpf.Program{bpf.PodProgLabFromPod: pod.prog, bpf.NetdevProgLabFromNetwork: nic.prog, bpf.NetdevProgLabToNetwork: out.prog} {
		info, err := prog.Info()
		m.must(err)
		insns, err := info.Instructions()
		m.must(err)
		b.Logf("%s: %d instructions", name, len(insns))
	}
}
