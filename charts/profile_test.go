package charts_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/settings"
	"wirelab.dev/wirelab/profiles"
)

// agentConfig is what an agent makes of the chart's ConfigMap.
func agentConfig(t *testing.T, values string) config.Config {
	t.Helper()
	cm := get[*corev1.ConfigMap](t, objects(t, values), configMap)
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(cm.Data["config.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, []string{"WIRELAB_NODENAME=n1"})
	if err != nil {
		t.Fatalf("%v\n%s", err, cm.Data["config.yaml"])
	}
	return cfg
}

// TestProfilesArriveAtTheAgent changes each setting of a profile's network in turn. The chart takes whatever the
// profile does, and the agent has the profile's own settings in the end. A new setting is in this test by itself.
func TestProfilesArriveAtTheAgent(t *testing.T) {
	along := map[string]string{"kubeProxyReplacement": "cluster.kubeProxyMode=none", "flows.relay.tls": "network.flows.relay.enabled=true"}
	for _, base := range []string{"kubeproxy", "kubeproxy-replacement", "ebpf"} {
		for _, key := range settings.Keys().Settings() {
			for _, value := range []string{key.Sample(), key.Default, "true", "false"} {
				opts := profiles.Options{Set: []string{"network." + key.Path + "=" + value}}
				if set, ok := along[key.Path]; ok && value == "true" {
					opts.Set = append(opts.Set, set)
				}
				p, err := profiles.Load(base, opts)
				if err != nil {
					continue // not for this key, or not together with what the profile says
				}
				t.Run(base+"/"+opts.Set[0], func(t *testing.T) {
					values, err := yaml.Marshal(p.Values(profiles.Install{}))
					if err != nil {
						t.Fatal(err)
					}
					if !p.Network.Debug.Enabled {
						p.Network.Debug.Verbose = "" // which has no effect
					}
					if diff := cmp.Diff(p.Network, agentConfig(t, string(values)).Network, cmpopts.EquateComparable(p.Network.IPv4NativeRoutingCIDR)); diff != "" {
						t.Errorf("the agent's settings are not the profile's:\n%s", diff)
					}
				})
			}
		}
	}
}
