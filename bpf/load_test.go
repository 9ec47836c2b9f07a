package bpf_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/netnstest"
)

// Verdicts of tcx programs, from linux/bpf.h. What goes on to the stack gets "next": there may be
// programs of others.
const (
	next     = 0xffffffff
	shot     = 2
	redirect = 7
)

// programs are both programs on one set of maps, as a node has them.
type programs struct {
	bpf.PodPrograms
	bpf.HostPrograms
	bpf.PodMaps
}

// telling is what events tell of, one of the ways in which the programs can be loaded.
type telling struct {
	aggregation bpf.Aggregation
	steps       bool
}

// drops are what is always told.
var drops telling

var tellings = map[string]telling{
	"drops are told":             drops,
	"flows are told":             {aggregation: bpf.PodLabAggregationLAB_AGGREGATE_MEDIUM},
	"packets and steps are told": {bpf.PodLabAggregationLAB_AGGREGATE_NONE, true},
}

// constants are those of the programs.
func (c telling) constants() map[string]any {
	return map[string]any{bpf.PodVarCfgAggregation: c.aggregation, bpf.PodVarCfgSteps: c.steps, bpf.PodVarCfgTells: c != drops, bpf.PodVarCfgPayload: uint32(128)}
}

func (c telling) set(t testing.TB, spec *ebpf.CollectionSpec) {
	t.Helper()
	for name, value := range c.constants() {
		if v := spec.Variables[name]; v != nil {
			must(t, v.Set(value))
		}
	}
}

func load(t testing.TB, what telling) *programs {
	t.Helper()
	netnstest.RequireRoot(t)
	pod, err := bpf.LoadPod()
	must(t, err)
	what.set(t, pod)
	var podObjects bpf.PodObjects
	must(t, pod.LoadAndAssign(&podObjects, nil))
	t.Cleanup(func() { must(t, podObjects.Close()) })

	for what := range podObjects.LabEventUntil.MaxEntries() {
		must(t, podObjects.LabEventUntil.Put(what, ^uint64(0))) // somebody reads
	}

	host, err := bpf.LoadHost()
	must(t, err)
	what.set(t, host)
	var hostPrograms bpf.HostPrograms
	must(t, host.LoadAndAssign(&hostPrograms, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		bpf.PodMapLabEndpoints:  podObjects.LabEndpoints,
		bpf.PodMapLabIfaces:     podObjects.LabIfaces,
		bpf.PodMapLabKernelCt:   podObjects.LabKernelCt,
		bpf.PodMapLabMetrics:    podObjects.LabMetrics,
		bpf.PodMapLabEvents:     podObjects.LabEvents,
		bpf.PodMapLabEventUntil: podObjects.LabEventUntil,
		bpf.PodMapLabEventSeq:   podObjects.LabEventSeq,
		bpf.PodMapLabObserved:   podObjects.LabObserved,
	}}))
	t.Cleanup(func() { must(t, hostPrograms.Close()) })
	return &programs{podObjects.PodPrograms, hostPrograms, podObjects.PodMaps}
}

// The bars are what the verifier has to leave of each program: a program that grows beyond them has to
// be looked at.
func TestProgramsLoad(t *testing.T) {
	for name, what := range tellings {
		t.Run(name, func(t *testing.T) {
			p := load(t, what)
			for _, prog := range []*ebpf.Program{p.LabFromPod, p.LabToPod} {
				info, err := prog.Info()
				must(t, err)
				bar := bars[bpf.PodLabModeLAB_KUBEPROXY][info.Name]
				insns, err := info.Instructions()
				must(t, err)
				verified, _ := info.VerifiedInstructions()
				t.Logf("%s: %d instructions, %d verified", info.Name, len(insns), verified)
				if what == drops && len(insns) > bar {
					t.Errorf("%s has %d instructions, more than %d", info.Name, len(insns), bar)
				}
			}
		})
	}
}

// infoOf loads programs and returns what the kernel says of one, which it keeps until the test ends.
func infoOf(t *testing.T, spec *ebpf.CollectionSpec, name string) *ebpf.ProgramInfo {
	t.Helper()
	c, err := ebpf.NewCollection(spec)
	must(t, err)
	t.Cleanup(c.Close)
	info, err := c.Programs[name].Info()
	must(t, err)
	return info
}

// run gives a frame to a program as if the device had it, and returns verdict and frame afterwards.
func (p *programs) run(t testing.TB, prog *ebpf.Program, ifindex int, frame []byte) (verdict uint32, out []byte) {
	t.Helper()
	out = make([]byte, len(frame)+256)
	opts := &ebpf.RunOptions{Data: frame, DataOut: out, Context: skbContext(ifindex)}
	verdict, err := prog.Run(opts)
	must(t, err)
	return verdict, opts.DataOut
}

// skbContext is a struct __sk_buff with nothing but ifindex set.
func skbContext(ifindex int) []byte {
	const ifindexOffset, size = 40, 192
	ctx := make([]byte, size)
	binary.NativeEndian.PutUint32(ctx[ifindexOffset:], uint32(ifindex))
	return ctx
}

// packets sums a counter over the CPUs.
func (p *programs) packets(t testing.TB, dir bpf.Direction, reason bpf.Reason) (packets, bytes uint64) {
	t.Helper()
	var perCPU []bpf.Metrics
	must(t, p.LabMetrics.Lookup(uint32(0), &perCPU))
	for i := range perCPU {
		m := &perCPU[i].Of[dir][reason]
		packets += m.Packets
		bytes += m.Bytes
	}
	return packets, bytes
}

func ip(a netip.Addr) bpf.IP { return bpf.IP{B: a.As16()} }

// mask is that of an IPv4 prefix.
func mask(bits int) (m bpf.IP) {
	copy(m.B[:], net.CIDRMask(96+bits, 128))
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	var rejected *ebpf.VerifierError
	if errors.As(err, &rejected) {
		t.Fatalf("%v\n%s", err, strings.Join(rejected.Log[max(0, len(rejected.Log)-30):], "\n"))
	}
	if err != nil {
		t.Fatalf("%+v", err)
	}
}
