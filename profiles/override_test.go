package profiles

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEverySettingCanBeOverriddenBothWays(t *testing.T) {
	// What has to be set along for a sample to make sense.
	along := map[string]string{
		"cluster.kubeProxyMode": "network.kubeProxyReplacement=true", "network.kubeProxyReplacement": "cluster.kubeProxyMode=none",
	}
	root := newSchema()
	for _, n := range root.Settings() {
		if n.Fixed {
			continue
		}
		t.Run(n.Path, func(t *testing.T) {
			want, bad := n.Typed(n.Sample())
			if bad != nil {
				t.Fatalf("the sample %q is refused: %s", n.Sample(), bad.Message)
			}
			for how, opts := range map[string]Options{
				"--set":       {Set: []string{n.Path + "=" + n.Sample()}},
				"environment": {Env: []string{"HOME=/", n.EnvName() + "=" + n.Sample()}},
			} {
				if set, ok := along[n.Path]; ok {
					opts.Set = append(opts.Set, set)
				}
				p, err := Parse("mine.yaml", []byte(head), opts)
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				if got := n.Value(p); !cmp.Equal(got, want, prefixes) {
					t.Errorf("%s: got %v, want %v", how, got, want)
				}
			}
		})
	}
}

func TestTypedLists(t *testing.T) {
	p := parse(t, head, Options{
		Set: []string{"network.devices=eth0, eth1", "cluster.registryMirrors=a.example=http://1.2.3.4:5000,b.example=https://c.example/x=y"},
		Env: []string{"WIRELAB_VERIFY_SKIP=[dns]"},
	})
	if want := []string{"eth0", "eth1"}; !cmp.Equal(p.Network.Devices, want) {
		t.Errorf("devices %v, want %v", p.Network.Devices, want)
	}
	if want := []string{"dns"}; !cmp.Equal(p.Verify.Skip, want) {
		t.Errorf("skip %v, want %v", p.Verify.Skip, want)
	}
	want := []RegistryMirror{{"a.example", "http://1.2.3.4:5000"}, {"b.example", "https://c.example/x=y"}}
	if !cmp.Equal(p.Cluster.RegistryMirrors, want) {
		t.Errorf("mirrors %v, want %v", p.Cluster.RegistryMirrors, want)
	}
	emptied := parse(t, head+"network: {devices: [eth0]}\n", Options{Set: []string{"network.devices=[]", "network.debug.verbose="}})
	if len(emptied.Network.Devices) != 0 || emptied.Network.Debug.Verbose != "" {
		t.Errorf("not emptied: %+v", emptied.Network)
	}
}

func TestBadSet(t *testing.T) {
	tests := []struct {
		set                string
		key, part, nearest string
	}{
		{"network.mtu", "network.mtu", "is not of the form key=value", ""},
		{"=1", "=1", "is not of the form key=value", ""},
		{"network.mut=1400", "network.mut", "unknown key", "network.mtu"},
		{"mtu=1400", "mtu", "unknown key", "network.mtu"},
		{"netwrok.mtu=1400", "netwrok.mtu", "unknown key", "network.mtu"},
		{"network.mtu.x=1", "network.mtu.x", "unknown key", ""},
		{"network.mtu=big", "network.mtu", `"big" is not a whole number`, ""},
		{"network=x", "network", "this is a section; set one of its keys: routingMode,", ""},
		{"network.bpf=x", "network.bpf", "this is a section; set one of its keys: monitorAggregation", ""},
		{"metadata.name=x", "metadata.name", "another name with --name", ""},
		{"kind=Profile", "kind", "belongs in the profile's file", ""},
		{"cluster.registryMirrors.host=x", "cluster.registryMirrors.host", "is set for the whole list", ""},
		{"cluster.registryMirrors=x", "cluster.registryMirrors", "is not of the form host=endpoint", ""},
		{"cluster.registryMirrors=a.example=http://localhost", "cluster.registryMirrors[0].endpoint", "is the node itself", ""},
		{"network.devices=eth0,lo", "network.devices[1]", "lo does not lead out", ""},
		{"cluster.podSubnet=10.96.0.0/16", "cluster.podSubnet", "overlap", ""},
	}
	for _, tt := range tests {
		t.Run(tt.set, func(t *testing.T) {
			// The list in the file must not lend its lines to one from --set.
			_, err := Parse("mine.yaml", []byte(head+"network: {devices: [eth0, eth1]}\n"), Options{Set: []string{tt.set}})
			expect(t, err, problem{0, tt.key, tt.part, tt.nearest})
			for _, p := range Problems(err) {
				if p.Source != "--set" {
					t.Errorf("source is %q, want --set", p.Source)
				}
			}
		})
	}
}

func TestEnvironmentRule(t *testing.T) {
	tests := []struct {
		variable          string
		source, key, part string
		nearest           string
	}{
		{variable: "WIRELAB_NETWORK_MUT=1", source: "WIRELAB_NETWORK_MUT", part: "no key of a profile", nearest: "WIRELAB_NETWORK_MTU"},
		{variable: "WIRELAB_NETWROK_MTU=1", source: "WIRELAB_NETWROK_MTU", part: "no key of a profile", nearest: "WIRELAB_NETWORK_MTU"},
		{variable: "WIRELAB_DEMO_NODE_PORT=1", source: "WIRELAB_DEMO_NODE_PORT", part: "no key of a profile", nearest: "WIRELAB_DEMO_NODEPORT"},
		{variable: "WIRELAB_NETWORK_MTU=big", source: "WIRELAB_NETWORK_MTU", key: "network.mtu", part: `"big" is not a whole number`},
		{variable: "WIRELAB_CLUSTER_PODSUBNET=10.96.0.0/16", source: "WIRELAB_CLUSTER_PODSUBNET", key: "cluster.podSubnet", part: "overlap"},
		// Variables of others stay theirs.
		{variable: "WIRELAB_TEST_STRICT=1"},
		{variable: "WIRELAB_NODE_NAME=x"},
		{variable: "WIRELAB_NETWORK=x"},
		{variable: "WIRELAB_METADATA_NAME=x"},
		{variable: "WIRELAB_=x"},
		{variable: "NETWORK_MTU=9"},
		{variable: "wirelab_network_mtu=9"},
		{variable: "no equals sign"},
	}
	for _, tt := range tests {
		t.Run(tt.variable, func(t *testing.T) {
			p, err := Parse("mine.yaml", []byte(head), Options{Env: []string{tt.variable}})
			if tt.part == "" {
				if err != nil || p.Network.MTU != 0 {
					t.Errorf("the variable counts: %v", err)
				}
				return
			}
			expect(t, err, problem{0, tt.key, tt.part, tt.nearest})
			for _, p := range Problems(err) {
				if p.Source != tt.source {
					t.Errorf("source is %q, want %q", p.Source, tt.source)
				}
			}
		})
	}
}
