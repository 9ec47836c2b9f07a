package labs

import (
	"strings"
	"testing"

	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/checks"
)

// TestChecksNameSettingsOfProfiles: a key or a value that no profile can have
// would spare every lab the check, and nobody would notice.
func TestChecksNameSettingsOfProfiles(t *testing.T) {
	p, err := profiles.Load("ebpf", profiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks.All(nil) {
		for _, setting := range c.Settings {
			key, value, one := strings.Cut(setting, "=")
			if _, known := p.Settings()[key]; !known {
				t.Errorf("%s: profiles have no setting %s", c.Name, key)
			}
			doc, err := profiles.Explain(key)
			if err != nil {
				t.Fatal(err)
			}
			if one && doc.Type == "true or false" && value != "true" && value != "false" {
				t.Errorf("%s: %s is %s, never %s", c.Name, key, doc.Type, value)
			}
		}
	}
	if !(verify.Kind{Settings: map[string]string{}}).Claims(checks.All(nil)[0]) {
		t.Error("a check that asks for no setting is claimed of every lab")
	}
}

// TestEveryProfileHasItsChecks counts what is claimed of the labs of the shipped profiles and of others.
func TestEveryProfileHasItsChecks(t *testing.T) {
	for _, tt := range []struct {
		profile string
		set     []string
		has     string // checks that are about one way of doing a thing
	}{
		{"kubeproxy", nil, "host/conntrack-pods rules/masquerade-chain outside/masquerade outside/native-cidr demo/answers"},
		{"kubeproxy", []string{"network.enableIPv4Masquerade=false", "demo.enabled=false"}, "host/conntrack-pods outside/native-cidr"},
		{"kubeproxy-replacement", nil, "host/conntrack-outside rules/masquerade-chain outside/masquerade outside/native-cidr demo/answers"},
		{"ebpf", nil, "host/conntrack-empty rules/no-masquerade outside/masquerade outside/native-cidr demo/answers"},
	} {
		p, err := profiles.Load(tt.profile, profiles.Options{Set: tt.set})
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(tt.has)
		one := "host/conntrack-pods host/conntrack-outside host/conntrack-empty rules/masquerade-chain rules/no-masquerade outside/masquerade outside/native-cidr demo/answers"
		claimed := map[string]bool{}
		for _, c := range checks.All(nil) {
			claimed[c.Name] = Claims(p).Claims(c)
		}
		for _, name := range strings.Fields(one) {
			if is := strings.Contains(" "+strings.Join(want, " ")+" ", " "+name+" "); claimed[name] != is {
				t.Errorf("%s %v: %s is claimed: %t, want %t", tt.profile, tt.set, name, claimed[name], is)
			}
		}
	}
}
