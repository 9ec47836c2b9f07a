package datapath

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wirelab.dev/wirelab/bpf"
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
