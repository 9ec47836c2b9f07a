package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestVerifyListSaysWhatLabsEachCheckIsFor needs no lab.
func TestVerifyListSaysWhatLabsEachCheckIsFor(t *testing.T) {
	withoutDocker(t)
	text, errOut, code := call(t, "verify", "--list", "--only", "rules/*masquerade*,pods/icmp*")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errOut)
	}
	for _, want := range []string{
		"rules/masquerade-chain   all     network.enableIPv4Masquerade=true,network.bpf.masquerade=false   On every node",
		"rules/no-masquerade      all     network.enableIPv4Masquerade=true,network.bpf.masquerade=true    No node",
		"pods/icmp-same-node      all     any", "pods/icmp-across-nodes   all     2 nodes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the list does not have %q:\n%s", want, text)
		}
	}
	raw, _, _ := call(t, "verify", "--list", "-o", "json", "--only", "rules/no-masquerade,pods/icmp-across-nodes")
	var list []struct {
		Name     string
		Settings []string
		MinNodes int
		Needs    []string
	}
	if err := json.Unmarshal([]byte(raw), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].MinNodes != 2 || !slices.Equal(list[0].Needs, []string{"pods"}) || !slices.Equal(list[1].Settings, []string{"network.enableIPv4Masquerade=true", "network.bpf.masquerade=true"}) {
		t.Errorf("the list is %+v", list)
	}
}
