package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/verify"
)

// TestAClaimThatDoesNotHoldIsTold: by a status of its own, which what could not look does not have.
func TestAClaimThatDoesNotHoldIsTold(t *testing.T) {
	of := func(statuses ...verify.Status) *verify.Report {
		r := &verify.Report{Lab: "x"}
		for _, s := range statuses {
			r.Results = append(r.Results, verify.Result{Status: s})
		}
		return r
	}
	for _, tt := range []struct {
		report *verify.Report
		code   int
		say    string
	}{
		{of(verify.Pass, verify.Pass), exitFine, ""},
		{of(verify.Pass, verify.Fail), exitClaim, "lab x: 1 of 2 checks failed"},
		{of(verify.Pass, verify.Error), exitFailed, "lab x: 1 of 2 checks could not look"},
		{of(verify.Error, verify.Fail, verify.Pass), exitClaim, "lab x: 1 of 3 checks failed, and 1 could not look"},
	} {
		err := passed(tt.report)
		if code := exitCode(err); code != tt.code || err != nil && err.Error() != tt.say {
			t.Errorf("exit %d, %v; want %d, %q", code, err, tt.code, tt.say)
		}
	}
}

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
