package datapath

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// Every map that differs from the version before is named in upgrades, and no map that does not, unless its entries
// mean something else.
func TestUpgradesNameWhatChanged(t *testing.T) {
	meansElse := map[string]bool{"v2 " + bpf.PodMapLabCt: true, "v2 " + bpf.PodMapLabNat: true}
	for version, step := range upgrades {
		before, after := mapsOfLayout(t, step.from), mapsOfLayout(t, version)
		for name, was := range before {
			is, there := after[name]
			_, named := step.changed[name]
			if there && named != (was != is || meansElse[version+" "+name]) {
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
	if version == "v1" { // before layouts were written down
		for _, spec := range specsV1(t) {
			for name, m := range spec.Maps {
				var b strings.Builder
				describeMap(&b, m)
				maps[name] = b.String()
			}
		}
		return maps
	}
	text, err := os.ReadFile(filepath.Join("testdata", "layouts", version+".txt"))
	fatal(t, err)
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		maps[name] += line
	}
	return maps
}

// What a flow of layout v1 has seen, and until when it would have been remembered, is what it has in v2.
func TestFlowsOfLayoutV1(t *testing.T) {
	const now = 1_000_000
	ends := func(src, dst string) (b [36]byte) {
		from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
		a, c := from.Addr().As16(), to.Addr().As16()
		copy(b[:], a[:])
		copy(b[16:], c[:])
		binary.BigEndian.PutUint16(b[32:], from.Port())
		binary.BigEndian.PutUint16(b[34:], to.Port())
		return b
	}
	for name, test := range map[string]struct {
		proto   uint8
		state   uint8
		expires uint32
		want    bpf.Translation
		state2  string
	}{
		"TCP, opening":     {unix.IPPROTO_TCP, 0, now + 60, bpf.Translation{Seen: now}, "opening"},
		"TCP, established": {unix.IPPROTO_TCP, answeredV1, now + 21600, bpf.Translation{Seen: now, Answered: 1, Lasting: 1}, "answered"},
		"TCP, one FIN":     {unix.IPPROTO_TCP, answeredV1 | finBackV1, now + 21600, bpf.Translation{Seen: now, Answered: 1, Lasting: 1, FinBack: 1}, "answered"},
		"TCP, both FINs":   {unix.IPPROTO_TCP, answeredV1 | finV1 | finBackV1, now + 10, bpf.Translation{Seen: now, Answered: 1, Lasting: 1, Fin: 1, FinBack: 1}, "closing"},
		"TCP, reset":       {unix.IPPROTO_TCP, resetV1, now + 10, bpf.Translation{Seen: now, Reset: 1}, "reset"},
		"UDP, asked":       {unix.IPPROTO_UDP, 0, now + 30, bpf.Translation{Seen: now}, "opening"},
		"UDP, answered":    {unix.IPPROTO_UDP, answeredV1, now + 120, bpf.Translation{Seen: now, Answered: 1}, "answered"},
		"echo":             {unix.IPPROTO_ICMP, answeredV1, now + 30, bpf.Translation{Seen: now, Answered: 1}, "answered"},
	} {
		t.Run(name, func(t *testing.T) {
			key := make([]byte, 40)
			key[protoV1] = test.proto
			value, err := binary.Append(nil, binary.NativeEndian, translationV1{
				Ends: ends("10.244.0.2:40000", "10.244.1.2:80"), Expires: test.expires, Service: 7, Backend: 9, State: test.state, Kind: uint8(bpf.PodCtKindCT_INBOUND),
			})
			fatal(t, err)
			sameKey, value, err := flowV1(key, value)
			fatal(t, err)
			if string(sameKey) != string(key) {
				t.Errorf("the key is %x, was %x", sameKey, key)
			}
			var got bpf.Translation
			if _, err := binary.Decode(value, binary.NativeEndian, &got); err != nil || len(value) != binary.Size(got) {
				t.Fatalf("%d bytes: %v", len(value), err)
			}
			want := test.want
			want.Src, want.Dst = bpf.IPOf(netip.MustParseAddr("10.244.0.2")), bpf.IPOf(netip.MustParseAddr("10.244.1.2"))
			want.Sport, want.Dport = bpf.PortOf(40000), bpf.PortOf(80)
			want.Service, want.Backend, want.Kind = 7, 9, bpf.PodCtKindCT_INBOUND
			if got != want || stateName(got) != test.state2 {
				t.Errorf("got %s\n%+v, want %s\n%+v", stateName(got), got, test.state2, want)
			}
		})
	}
}
