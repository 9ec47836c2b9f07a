package datapath

import (
	"slices"
	"testing"
)

func TestStatefulRules(t *testing.T) {
	const established = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
	for name, test := range map[string]struct {
		saved string
		want  []string
	}{
		"nothing":              {":FORWARD DROP [0:0]\n", nil},
		"policy":               {":FORWARD DROP [0:0]\n" + established, []string{established}},
		"no drop":              {":FORWARD ACCEPT [0:0]\n:INPUT DROP [0:0]\n" + established + "-A INPUT -j DROP\n", nil},
		"a drop":               {":FORWARD ACCEPT [0:0]\n" + established + "-A FORWARD -j DROP\n", []string{established}},
		"a rejection":          {":FORWARD ACCEPT [0:0]\n" + established + "-A FORWARD -j REJECT --reject-with icmp-port-unreachable\n", []string{established}},
		"the older word":       {":FORWARD DROP [0:0]\n-A FORWARD -m state --state ESTABLISHED -j ACCEPT\n", []string{"-A FORWARD -m state --state ESTABLISHED -j ACCEPT\n"}},
		"another state":        {":FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate NEW -j ACCEPT\n", nil},
		"another chain":        {":FORWARD DROP [0:0]\n:OTHER - [0:0]\n-A OTHER -m conntrack --ctstate ESTABLISHED -j ACCEPT\n", nil},
		"a chain led to":       {":FORWARD DROP [0:0]\n-A FORWARD -j A\n-A A -g B\n-A B -j A\n-A B -m conntrack --ctstate ESTABLISHED -j ACCEPT\n", []string{"-A B -m conntrack --ctstate ESTABLISHED -j ACCEPT\n"}},
		"dropped when invalid": {":FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n" + established, nil},
		"all but established":  {":FORWARD ACCEPT [0:0]\n" + established + "-A FORWARD -m conntrack ! --ctstate ESTABLISHED -j DROP\n", []string{established}},
		"untracked ones pass":  {":FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate ESTABLISHED,UNTRACKED -j ACCEPT\n", nil},
		"counted":              {":FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate ESTABLISHED\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := iptablesFirewall("*filter\n" + test.saved + "COMMIT\n").stateful()
			for i := range got {
				got[i] += "\n"
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
