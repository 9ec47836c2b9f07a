package bpf_test

import (
	"bytes"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/netnstest"
)

// Kernels before 6.2 have no bpf_cast_to_kern_ctx, without which nothing is remembered of flows. Simulated:
// the programs ask for a function that no kernel has.
func TestNothingIsRememberedOnOldKernels(t *testing.T) {
	netnstest.RequireRoot(t)
	for object, remembers := range map[string]string{"pod_bpfel.o": "lab_from_pod", "netdev_bpfel.o": "lab_from_network"} {
		raw, err := os.ReadFile(object)
		must(t, err)
		without := bytes.ReplaceAll(raw, []byte("bpf_cast_to_kern_ctx"), []byte("bpf_cast_to_kern_xxx"))
		if got := functionsOf(t, raw, remembers); !got["see_end"] {
			t.Errorf("%s has %v: this says nothing about old kernels", remembers, got)
		}
		if got := functionsOf(t, without, remembers); got["see_end"] || !got["decide"] {
			t.Errorf("on an old kernel %s has %v", remembers, got)
		}
	}
}

// functionsOf are those that the kernel leaves in a program of the mode that remembers flows.
func functionsOf(t *testing.T, object []byte, name string) map[string]bool {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	must(t, err)
	must(t, spec.Variables[bpf.PodVarCfgMode].Set(bpf.PodLabModeLAB_EBPF))
	for name, value := range map[string]any{ // without which most of the programs is dead
		bpf.PodVarCfgNatMax: uint16(65535), bpf.PodVarCfgPodCidr: ip(netip.MustParseAddr("10.0.0.0")), bpf.PodVarCfgPodMask: mask(24),
	} {
		must(t, spec.Variables[name].Set(value))
	}
	functions, err := infoOf(t, spec, name).FuncInfos()
	must(t, err)
	found := map[string]bool{}
	for _, f := range functions {
		found[f.Func.Name] = true
	}
	return found
}

// Kernels before 6.0, and those that track no connections, have nobody to ask what they translate. Simulated as above.
func TestNobodyIsAskedOnOldKernels(t *testing.T) {
	netnstest.RequireRoot(t)
	raw, err := os.ReadFile("netdev_bpfel.o")
	must(t, err)
	without := bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("bpf_skb_ct_lookup"), []byte("bpf_skb_ct_xxxxxx")), []byte("bpf_ct_release"), []byte("bpf_ct_xxxxxxx"))
	if bytes.Equal(raw, without) {
		t.Fatal("the object asks nobody: this says nothing about old kernels")
	}
	if got := functionsOf(t, without, "lab_from_network"); !got["is_stray"] {
		t.Errorf("on an old kernel lab_from_network has %v", got)
	}
}
