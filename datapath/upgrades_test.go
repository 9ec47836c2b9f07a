package datapath

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/netnstest"
)

// Every map that differs from the version before is named in upgrades, and no map that does not.
func TestUpgradesNameWhatChanged(t *testing.T) {
	for version, step := range upgrades {
		before, after := mapsOfLayout(t, step.from), mapsOfLayout(t, version)
		for name, was := range before {
			is, there := after[name]
			_, named := step.changed[name]
			if there && named != (was != is) {
				t.Errorf("%s to %s, %s: it was\n%sand is\n%sand that it is named as changed is %v", step.from, version, name, was, is, named)
			}
		}
		for name := range step.changed {
			if _, ok := before[name]; !ok {
				t.Errorf("%s has no map %s", step.from, name)
			}
		}
	}
}

// mapsOfLayout describes each map of a layout.
func mapsOfLayout(t *testing.T, version string) map[string]string {
	t.Helper()
	maps := map[string]string{}
	text, err := os.ReadFile(filepath.Join("testdata", "layouts", version+".txt"))
	fatal(t, err)
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		maps[name] += line
	}
	return maps
}

// What an endpoint of layout v2 was, it is in v3, and nothing is known of its identity.
func TestEndpointsOfLayoutV2(t *testing.T) {
	key := make([]byte, 16)
	value, err := binary.Append(nil, binary.NativeEndian, endpointOfV2{Ifindex: 1, ID: 2, Veth: 3, MACs: [12]byte{4, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 7}})
	fatal(t, err)
	sameKey, value, err := endpointV2(key, value)
	fatal(t, err)
	if string(sameKey) != string(key) {
		t.Errorf("the key is %x, was %x", sameKey, key)
	}
	var got bpf.Endpoint
	if _, err := binary.Decode(value, binary.NativeEndian, &got); err != nil || len(value) != binary.Size(got) {
		t.Fatalf("%d bytes: %v", len(value), err)
	}
	want := bpf.Endpoint{Ifindex: 1, Id: 2, Veth: 3, Mac: bpf.MAC{B: [6]uint8{4, 0, 0, 0, 0, 5}}, NodeMac: bpf.MAC{B: [6]uint8{6, 0, 0, 0, 0, 7}}}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What a flow of layout v2 has seen, and what its addresses become, is what it has in v3.
func TestFlowsOfLayoutV2(t *testing.T) {
	ends := func() (b [36]byte) {
		for i := range b {
			b[i] = byte(i + 1)
		}
		return b
	}()
	value, err := binary.Append(nil, binary.NativeEndian, entryOfV2{Ends: ends, Seen: 1, Service: 2, Backend: 3, Kind: 2, Marks: [5]byte{1, 0, 1, 0, 1}, Turn: 4})
	fatal(t, err)
	want := bpf.FlowEntry{
		Flow: bpf.Flow{Seen: 1, Service: 2, Kind: bpf.PodCtKindCT_INBOUND, Answered: 1, FinBack: 1, Lasting: 1, Turn: 4},
		To:   bpf.Translation{Sport: binary.NativeEndian.Uint16(ends[32:]), Dport: binary.NativeEndian.Uint16(ends[34:]), Backend: 3},
	}
	copy(want.To.Src.B[:], ends[:])
	copy(want.To.Dst.B[:], ends[16:])
	key := make([]byte, 40)
	key[37] = byte(bpf.PodTupleFlagTUPLE_MASQUERADE)
	for name, c := range map[string]struct {
		convert   conversion
		direction bpf.PodTupleDirection
	}{"lab_ct": {flowV2, bpf.PodTupleDirectionTUPLE_FORWARD}, "lab_nat": {answersV2, bpf.PodTupleDirectionTUPLE_BACK}} {
		keyNow, valueNow, err := c.convert(key, value)
		fatal(t, err)
		var tuple bpf.Tuple
		var got bpf.FlowEntry
		_, keyErr := binary.Decode(keyNow, binary.NativeEndian, &tuple)
		_, err = binary.Decode(valueNow, binary.NativeEndian, &got)
		fatal(t, errors.Join(keyErr, err))
		if wantKey := (bpf.Tuple{Flags: bpf.PodTupleFlagTUPLE_MASQUERADE, Direction: c.direction}); tuple != wantKey || got != want || len(valueNow) != binary.Size(got) {
			t.Errorf("%s: got %+v\n%+v, want %+v\n%+v", name, tuple, got, wantKey, want)
		}
	}
}

// Programs of both layouts may have run for a while, when an attempt to upgrade was cut off: of each flow that entry is
// kept that was seen last.
func TestTheNewestFlowsAreCarriedOver(t *testing.T) {
	netnstest.RequireRoot(t)
	const old, kept = 1, 2 // Services, which tell the entries apart
	specs, err := mapSpecs()
	fatal(t, err)
	for _, flags := range []ebpf.MapUpdateFlags{ebpf.UpdateAny, ebpf.UpdateNoExist} {
		now, err := ebpf.NewMap(specs[bpf.PodMapLabCt])
		fatal(t, err)
		defer now.Close()
		was := specs[bpf.PodMapLabCt].Copy()
		was.Value, was.ValueSize = nil, uint32(binary.Size(entryOfV2{}))
		before, err := ebpf.NewMap(was)
		fatal(t, err)
		m := &maps{}
		m.takeOver(before, bpf.PodMapLabCt, &now, []conversion{flowV2})
		defer m.closePredecessors()
		cases := map[uint16]struct{ before, now, want uint32 }{ // when it was seen, by port; 0: it is not there
			1: {100, 0, old}, 2: {100, 90, old}, 3: {100, 110, kept}, 4: {100, 100, kept}, 5: {0, 90, kept},
		}
		for port, c := range cases {
			if c.before != 0 {
				fatal(t, before.Put(bpf.Tuple{Sport: port}, entryOfV2{Seen: c.before, Service: old}))
			}
			if c.now != 0 {
				fatal(t, now.Put(bpf.Tuple{Sport: port}, bpf.FlowEntry{Flow: bpf.Flow{Seen: c.now, Service: kept}}))
			}
		}
		fatal(t, m.carryOver(flags))
		for port, c := range cases {
			var got bpf.FlowEntry
			fatal(t, now.Lookup(bpf.Tuple{Sport: port}, &got))
			if got.Flow.Service != c.want {
				t.Errorf("flags %d, seen at %d before and at %d now: got that of %d, want that of %d", flags, c.before, c.now, got.Flow.Service, c.want)
			}
		}
	}
}
