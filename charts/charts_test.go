package charts_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/settings"
)

const (
	daemonSet = "DaemonSet/wirelab-agent"
	configMap = "ConfigMap/wirelab-config"
)

// good are values that differ from the defaults in each key once, with what
// they must change in the agent's configuration.
var good = []struct {
	name, values string
	check        func(config.Config) bool
}{
	{"defaults", "", func(c config.Config) bool {
		return c.RoutingMode == "tunnel" && c.TunnelProtocol == "vxlan" && c.TunnelPort == 0 && !c.AutoDirectNodeRoutes && c.EnableIPv4Masquerade && c.IPv4NativeRoutingCIDR.String() == "10.0.0.0/8" && c.MTU == 0 &&
			c.DaemonSet == "kube-system/wirelab-agent" && c.Paths.HostRoot == "/host" && c.BPF.MonitorAggregation == "maximum" &&
			c.BPF.CTMax == 65536 && c.InstallNoConntrackIptablesRules
	}},
	{"the word disabled", "kubeProxyReplacement: disabled", func(c config.Config) bool { return !c.KubeProxyReplacement }},
	{"false as text", `kubeProxyReplacement: "false"`, func(c config.Config) bool { return !c.KubeProxyReplacement }},
	{"false", "kubeProxyReplacement: false", func(c config.Config) bool { return !c.KubeProxyReplacement }},
	{"routes of others", "autoDirectNodeRoutes: false", func(c config.Config) bool { return !c.AutoDirectNodeRoutes }},
	{"another native CIDR", "ipv4NativeRoutingCIDR: 192.168.0.0/16", func(c config.Config) bool { return c.IPv4NativeRoutingCIDR.String() == "192.168.0.0/16" }},
	{"no masquerade", "{enableIPv4Masquerade: false, ipv4NativeRoutingCIDR: ''}", func(c config.Config) bool {
		return !c.EnableIPv4Masquerade && !c.IPv4NativeRoutingCIDR.IsValid()
	}},
	{"devices", "devices: [eth0, eth1]", func(c config.Config) bool { return slices.Equal(c.Devices, []string{"eth0", "eth1"}) }},
	{"labels", "labels: {include: ['app*'], exclude: [build, 'ci.example.com/*']}", func(c config.Config) bool {
		return slices.Equal(c.Labels.Include, []string{"app*"}) && slices.Equal(c.Labels.Exclude, []string{"build", "ci.example.com/*"})
	}},
	{"MTU", "MTU: 1400", func(c config.Config) bool { return c.MTU == 1400 }},
	{"largest MTU", "MTU: 65535", func(c config.Config) bool { return c.MTU == 65535 }},
	{"aggregation", "bpf: {monitorAggregation: none}", func(c config.Config) bool { return c.BPF.MonitorAggregation == "none" }},
	{"BPF masquerade", "{kubeProxyReplacement: strict, k8sServiceHost: cp, bpf: {masquerade: true}}", func(c config.Config) bool {
		return c.KubeProxyReplacement && c.BPF.Masquerade
	}},
	{"legacy routing", "bpf: {hostLegacyRouting: true}", func(c config.Config) bool { return c.BPF.HostLegacyRouting }},
	{"fallback", "bpf: {allowFallback: true}", func(c config.Config) bool { return c.BPF.AllowFallback }},
	{"flows", "bpf: {ctMax: 1000000}", func(c config.Config) bool { return c.BPF.CTMax == 1000000 }},
	{"flow metrics", "flows: {metrics: [drop, port-distribution]}", func(c config.Config) bool {
		return slices.Equal(c.Flows.Metrics, []string{"drop", "port-distribution"})
	}},
	{"tracked", "installNoConntrackIptablesRules: false", func(c config.Config) bool { return !c.InstallNoConntrackIptablesRules }},
	{"ipam", "ipam: {mode: kubernetes}", func(c config.Config) bool { return c.IPAM.Mode == "kubernetes" }},
	{"a pool", "ipam: {mode: cluster-pool, operator: {clusterPoolIPv4PodCIDRList: [10.9.0.0/16, 10.10.0.0/16], clusterPoolIPv4MaskSize: 26}}", func(c config.Config) bool {
		o := c.IPAM.Operator
		return c.IPAM.Mode == "cluster-pool" && slices.Equal(o.ClusterPoolIPv4PodCIDRList, []string{"10.9.0.0/16", "10.10.0.0/16"}) && o.ClusterPoolIPv4MaskSize == 26
	}},
	{"operators", "operator: {replicas: 2, image: {repository: example/operator, tag: t2}}", func(config.Config) bool { return true }},
	{"relay", "{flows: {relay: {enabled: true, tls: true, agentPort: 4250}}, relay: {image: {repository: example/relay, tag: t3}}}", func(c config.Config) bool {
		return c.Flows.Relay == settings.Relay{Enabled: true, TLS: true, AgentPort: 4250}
	}},
	{"cluster", "cluster: {name: 'yes'}", func(c config.Config) bool { return c.ClusterName == "yes" }},
	{"debug", "debug: {enabled: true, verbose: datapath}", func(c config.Config) bool { return c.Debug.Enabled && c.Debug.Verbose == "datapath" }},
	{"prometheus port", "prometheus: {port: 1234}", func(c config.Config) bool { return c.Prometheus.Port == 1234 }},
	{"no prometheus", "prometheus: {enabled: false}", func(c config.Config) bool { return !c.Prometheus.Enabled }},
	{"health port", "clusterHealth: {port: 1234}", func(c config.Config) bool { return c.ClusterHealth.Enabled && c.ClusterHealth.Port == 1234 }},
	{"monitoring", "{serviceMonitor: {enabled: true, labels: {release: stack}}, dashboard: {enabled: true}}", func(config.Config) bool { return true }},
	{"no health", "clusterHealth: {enabled: false}", func(c config.Config) bool { return !c.ClusterHealth.Enabled }},
	{"API server", "{k8sServiceHost: cp, k8sServicePort: 6443}", func(config.Config) bool { return true }},
	{"image", "image: {repository: example/agent, tag: t1, pullPolicy: Never}", func(config.Config) bool { return true }},
}

// TestAgentTakesTheRenderedConfiguration renders each set of values and hands
// the ConfigMap to the decoder of the agent itself, so that the two never
// disagree about a key.
func TestAgentTakesTheRenderedConfiguration(t *testing.T) {
	for _, tc := range good {
		t.Run(tc.name, func(t *testing.T) {
			cfg := agentConfig(t, tc.values)
			if !tc.check(cfg) {
				t.Errorf("the value did not arrive: %+v", cfg)
			}
		})
	}
}

func TestValuesAreRefused(t *testing.T) {
	for _, tc := range []struct{ values, want string }{
		{"dubug: {enabled: true}", "dubug"},
		{"enableIPv4Masqerade: true", "enableIPv4Masqerade"},
		{"image: {name: x}", "name"},
		{"cluster: {nam: x}", "nam"},
		{"bpf: {monitorAgregation: none}", "monitorAgregation"},
		{"bpf: {masquerade: true}", "masquerade"},
		{"ipam: {operator: {mask: 24}}", "mask"},
		{"ipam: {mode: cluster-pool, operator: {clusterPoolIPv4PodCIDRList: []}}", "cluster-pool needs ipam.operator.clusterPoolIPv4PodCIDRList"},
		{"ipam: {operator: {clusterPoolIPv4PodCIDRList: [10.0.0.0]}}", "clusterPoolIPv4PodCIDRList"},
		{"ipam: {operator: {clusterPoolIPv4MaskSize: 31}}", "clusterPoolIPv4MaskSize"},
		{"operator: {replicas: -1}", "replicas"},
		{"debug: {verbos: datapath}", "verbos"},
		{"prometheus: {ports: 1}", "ports"},
		{"global: {x: 1}", "x"},
		{"kubeProxyReplacement: true", "kubeProxyReplacement"},
		{"kubeProxyReplacement: strict", "kubeProxyReplacement"},
		{"kubeProxyReplacement: partial", "kubeProxyReplacement"},
		{"routingMode: overlay", "routingMode"},
		{"autoDirectNodeRoutes: 'yes'", "autoDirectNodeRoutes"},
		{"ipv4NativeRoutingCIDR: 10.0.0.0", "ipv4NativeRoutingCIDR"},
		{"ipv4NativeRoutingCIDR: 10.0.0.0/33", "ipv4NativeRoutingCIDR"},
		{"enableIPv4Masquerade: 1", "enableIPv4Masquerade"},
		{"devices: eth0", "devices"},
		{"labels: {include: [a b]}", "labels"},
		{"labels: {exclude: ['*app']}", "labels"},
		{"devices: [eth0, eth0]", "devices"},
		{"devices: [a-name-that-is-too-long]", "devices"},
		{"MTU: 100", "MTU"},
		{"MTU: 70000", "MTU"},
		{"MTU: '1500'", "MTU"},
		{"bpf: {monitorAggregation: low}", "monitorAggregation"},
		{"bpf: {monitorPayload: 53}", "monitorPayload"},
		{"bpf: {ctMax: 4095}", "ctMax"},
		{"bpf: {ctMax: 4194305}", "ctMax"},
		{"bpf: {ctMax: many}", "ctMax"},
		{"installNoConntrackIptablesRules: 'no'", "installNoConntrackIptablesRules"},
		{"flows: {metrics: drop}", "metrics"},
		{"flows: {metrics: [drops]}", "metrics"},
		{"flows: {metrics: [drop, drop]}", "metrics"},
		{"ipam: {mode: delegated}", "mode"},
		{"k8sServicePort: 70000", "k8sServicePort"},
		{"debug: {verbose: flow}", "verbose"},
		{"image: {pullPolicy: Sometimes}", "pullPolicy"},
		{"image: {repository: ''}", "repository"},
		{"prometheus: {port: 0}", "port"},
		{"clusterHealth: {port: 0}", "port"},
		{"serviceMonitor: {labels: {release: 1}}", "release"},
		{"dashboard: {enabld: true}", "enabld"},
		// What the settings say together.
		{"ipv4NativeRoutingCIDR: ''", "enableIPv4Masquerade needs ipv4NativeRoutingCIDR"},
		{"tunnelPort: 53", "tunnelPort: 53 is the port of DNS; leave it out"},
		{"tunnelPort: 68", "tunnelPort: 68 is the port of DHCP"},
		{"{tunnelProtocol: geneve, tunnelPort: 30000}", "NodePorts"},
		{"tunnelPort: 32768", "ports that flows get"},
		{"MTU: 625", "leaves pods less than 576 bytes of packet, as the tunnel (routingMode tunnel) takes 50; raise it to 626 at least"},
		{"ipam: {mode: cluster-pool, operator: {clusterPoolIPv4PodCIDRList: [10.0.0.0/12, 10.16.0.0/25]}}", "ipam.operator.clusterPoolIPv4PodCIDRList[1]: 10.16.0.0/25 has no room for a node, each of which gets a /24 (ipam.operator.clusterPoolIPv4MaskSize); widen it, or raise that number"},
		{"k8sServicePort: 6443", "k8sServicePort needs k8sServiceHost"},
		{"debug: {verbose: datapath}", "debug.verbose needs debug.enabled"},
		{"{flows: {metrics: [drop]}, prometheus: {enabled: false}}", "flows.metrics needs prometheus.enabled: without it"},
		{"flows: {metrics: [drop], capacity: 0}", "flows.metrics needs flows.capacity: with 0"},
		{"{serviceMonitor: {enabled: true}, prometheus: {enabled: false}}", "serviceMonitor.enabled needs prometheus.enabled: without it"},
		{"{prometheus: {port: 4240}}", "prometheus.port and clusterHealth.port are both 4240"},
		{"flows: {relay: {enabled: true, agentPort: 9962}}", "flows.relay.agentPort and prometheus.port are both 9962"},
		{"flows: {relay: {enabled: true, agentPort: 4240}}", "flows.relay.agentPort and clusterHealth.port are both 4240"},
		{"flows: {relay: {enabled: true}, capacity: 0}", "flows.relay.enabled needs flows.capacity"},
		{"flows: {relay: {agentPort: 0}}", "agentPort"},
		{"relay: {replicas: 2}", "replicas"},
		{"ipv4NativeRoutingCIDR: 999.1.1.1/8", "ipv4NativeRoutingCIDR"},
		{"ipv4NativeRoutingCIDR: 10.0.0.256/8", "ipv4NativeRoutingCIDR"},
		{"ipv4NativeRoutingCIDR: 010.0.0.0/8", "ipv4NativeRoutingCIDR"},
		{"image: null", "image has no value"},
		{"image: {tag: null}", "image.tag has no value"},
	} {
		t.Run(tc.values, func(t *testing.T) {
			_, err := render(t, tc.values)
			if err == nil {
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not name %q", err, tc.want)
			}
		})
	}
}

// TestNullIsNoValue: for each key, null would take the chart's own value away and leave the agent without one.
func TestNullIsNoValue(t *testing.T) {
	defaults := load(t).Values
	for key, value := range defaults {
		if _, err := render(t, key+": null"); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: null: %v", key, err)
		}
		below, _ := value.(map[string]any)
		for name := range below {
			if _, err := render(t, key+": {"+name+": null}"); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s.%s: null: %v", key, name, err)
			}
		}
	}
}

// TestSchemaIsClosed holds that no object of the schema takes keys it does
// not list, at whatever depth one is added.
func TestSchemaIsClosed(t *testing.T) {
	var schema map[string]any
	unmarshal(t, load(t).Schema, &schema)
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		if s["type"] == "object" && s["additionalProperties"] != false && path != "values.serviceMonitor.labels" {
			t.Errorf("%s takes any key", path)
		}
		properties, _ := s["properties"].(map[string]any)
		for name, p := range properties {
			walk(path+"."+name, p.(map[string]any))
		}
	}
	walk("values", schema)
}

// TestSchemaAndDefaultsHaveTheSameKeys keeps the two files together.
func TestSchemaAndDefaultsHaveTheSameKeys(t *testing.T) {
	c := load(t)
	var schema map[string]any
	unmarshal(t, c.Schema, &schema)
	var walk func(path string, s map[string]any, defaults map[string]any)
	walk = func(path string, s, defaults map[string]any) {
		properties, _ := s["properties"].(map[string]any)
		for name, p := range properties {
			if _, former := settings.Former[name]; path == "" && (name == "global" || former) {
				continue
			}
			value, ok := defaults[name]
			if !ok {
				t.Errorf("values.yaml has no %s%s", path, name)
				continue
			}
			if nested, ok := value.(map[string]any); ok {
				walk(path+name+".", p.(map[string]any), nested)
			}
		}
	}
	walk("", schema, c.Values)
	for _, line := range strings.Split(string(raw(t, "values.yaml")), "\n\n") {
		first, _, _ := strings.Cut(strings.TrimSpace(line), "\n")
		if first != "" && !strings.Contains(line, "#") {
			t.Errorf("values.yaml says nothing about %q", first)
		}
	}
}

func TestRBACIsMinimal(t *testing.T) {
	objs := objects(t, "")
	if got, want := get[*rbacv1.ClusterRole](t, objs, "ClusterRole/wirelab-agent").Rules, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"nodes/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{"wirelab.dev"}, Resources: []string{"labnodes"}, Verbs: []string{"list", "watch", "create", "update"}},
		{APIGroups: []string{"wirelab.dev"}, Resources: []string{"labnodes/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{"wirelab.dev"}, Resources: []string{"labidentities"}, Verbs: []string{"get", "list", "watch", "create"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create"}},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("cluster-wide rights %v, want %v", got, want)
	}
	if got, want := get[*rbacv1.Role](t, objs, "Role/wirelab-agent").Rules, []rbacv1.PolicyRule{
		{APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, ResourceNames: []string{"wirelab-agent"}, Verbs: []string{"get", "list", "watch"}},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("rights in the namespace %v, want %v", got, want)
	}
	for _, binding := range []string{"ClusterRoleBinding/wirelab-agent", "RoleBinding/wirelab-agent", "RoleBinding/wirelab-agent-kubernetes"} {
		var subjects []rbacv1.Subject
		switch b := objs[binding].(type) {
		case *rbacv1.ClusterRoleBinding:
			subjects = b.Subjects
		case *rbacv1.RoleBinding:
			subjects = b.Subjects
		}
		if want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "wirelab-agent", Namespace: "kube-system"}}; !reflect.DeepEqual(subjects, want) {
			t.Errorf("%s binds %v, want %v", binding, subjects, want)
		}
	}
	if got, want := get[*rbacv1.Role](t, objs, "Role/wirelab-agent-kubernetes"), []rbacv1.PolicyRule{
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, ResourceNames: []string{"kubernetes"}, Verbs: []string{"list", "watch"}},
	}; got.Namespace != "default" || !reflect.DeepEqual(got.Rules, want) {
		t.Errorf("rights in namespace %s are %v, want %v in default", got.Namespace, got.Rules, want)
	}
	if len(objs) != 26 {
		t.Errorf("the chart renders %d objects, want the 26 known ones: %v", len(objs), objs)
	}
}

// TestOperatorHasTheLeastPrivileges holds what it may ask of the API server, and its process.
func TestOperatorHasTheLeastPrivileges(t *testing.T) {
	objs := objects(t, "")
	if got, want := get[*rbacv1.ClusterRole](t, objs, "ClusterRole/wirelab-operator").Rules, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{"wirelab.dev"}, Resources: []string{"labnodes"}, Verbs: []string{"get", "list", "watch", "update", "delete"}},
		{APIGroups: []string{"wirelab.dev"}, Resources: []string{"labnodes/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{"wirelab.dev"}, Resources: []string{"labidentities"}, Verbs: []string{"list", "watch", "update", "delete"}},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("cluster-wide rights %v, want %v", got, want)
	}
	lease := get[*coordinationv1.Lease](t, objs, "Lease/wirelab-operator")
	if lease.Namespace != "kube-system" || !reflect.DeepEqual(lease.Spec, coordinationv1.LeaseSpec{}) {
		t.Errorf("the lease is %+v: an upgrade would take it from who leads", lease)
	}
	for name, want := range map[string]struct {
		namespace string
		rules     []rbacv1.PolicyRule
	}{
		"wirelab-operator": {"kube-system", []rbacv1.PolicyRule{
			{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{lease.Name}, Verbs: []string{"get", "update"}},
		}},
		"wirelab-operator-events": {"default", []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create"}}}},
	} {
		role, binding := get[*rbacv1.Role](t, objs, "Role/"+name), get[*rbacv1.RoleBinding](t, objs, "RoleBinding/"+name)
		if role.Namespace != want.namespace || binding.Namespace != want.namespace || !reflect.DeepEqual(role.Rules, want.rules) {
			t.Errorf("rights in %s and %s are %v, want %v in %s", role.Namespace, binding.Namespace, role.Rules, want.rules, want.namespace)
		}
		if subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "wirelab-operator", Namespace: "kube-system"}}; binding.RoleRef.Name != name || !reflect.DeepEqual(binding.Subjects, subjects) {
			t.Errorf("%s gives %s to %v", name, binding.RoleRef.Name, binding.Subjects)
		}
	}
	pod := get[*appsv1.Deployment](t, objs, "Deployment/wirelab-operator").Spec.Template.Spec
	sc := pod.Containers[0].SecurityContext
	if pod.HostPID || pod.HostIPC || len(pod.Volumes) > 0 || *sc.Privileged || *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem || !*sc.RunAsNonRoot ||
		!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(sc.Capabilities.Add) > 0 {
		t.Errorf("the operator's pod is %+v, its rights %+v", pod, sc)
	}
}

// TestAgentsWriteTheirOwnLabNode holds the policy about it to the same as that of the node's status.
func TestAgentsWriteTheirOwnLabNode(t *testing.T) {
	objs := objects(t, "")
	policy := get[*admissionv1.ValidatingAdmissionPolicy](t, objs, "ValidatingAdmissionPolicy/wirelab-agent-objects").Spec
	ofStatus := get[*admissionv1.ValidatingAdmissionPolicy](t, objs, "ValidatingAdmissionPolicy/wirelab-agent").Spec
	if *policy.FailurePolicy != admissionv1.Fail || !reflect.DeepEqual(policy.MatchConditions, ofStatus.MatchConditions) || !reflect.DeepEqual(policy.Variables[0], ofStatus.Variables[0]) {
		t.Errorf("it is for %+v, with %+v", policy.MatchConditions, policy.Variables)
	}
	if rules := policy.MatchConstraints.ResourceRules; len(rules) != 1 || !slices.Equal(rules[0].Operations, []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}) ||
		!slices.Equal(rules[0].Resources, []string{"labnodes", "labnodes/status"}) || !slices.Equal(rules[0].APIVersions, []string{"*"}) {
		t.Errorf("it is about %+v", rules)
	}
	if v := policy.Validations; len(v) != 2 || v[0].Expression != "object.metadata.name in variables.nodes" {
		t.Errorf("it demands %+v", v)
	}
	binding := get[*admissionv1.ValidatingAdmissionPolicyBinding](t, objs, "ValidatingAdmissionPolicyBinding/wirelab-agent-objects").Spec
	if binding.PolicyName != "wirelab-agent-objects" || binding.MatchResources != nil || !slices.Equal(binding.ValidationActions, []admissionv1.ValidationAction{admissionv1.Deny}) {
		t.Errorf("it is bound by %+v", binding)
	}
}

// TestAgentsWriteTheirOwnNodesStatus holds that the policy is about the agents'
// account, about what RBAC lets them write, and in force. What it says is tried
// on a real API server (e2e).
func TestAgentsWriteTheirOwnNodesStatus(t *testing.T) {
	objs := objects(t, "")
	policy := get[*admissionv1.ValidatingAdmissionPolicy](t, objs, "ValidatingAdmissionPolicy/wirelab-agent").Spec
	if *policy.FailurePolicy != admissionv1.Fail {
		t.Errorf("when it cannot be asked: %s", *policy.FailurePolicy)
	}
	if rules := policy.MatchConstraints.ResourceRules; len(rules) != 1 || !slices.Equal(rules[0].Operations, []admissionv1.OperationType{admissionv1.Update}) ||
		!slices.Equal(rules[0].Resources, []string{"nodes/status"}) || !slices.Equal(rules[0].APIGroups, []string{""}) {
		t.Errorf("it is about %+v", rules)
	}
	if c := policy.MatchConditions; len(c) != 1 || c[0].Expression != `request.userInfo.username == "system:serviceaccount:kube-system:wirelab-agent"` {
		t.Errorf("it is for %+v", c)
	}
	if v := policy.Validations; len(v) != 2 || v[0].Expression != "object.metadata.name in variables.nodes" {
		t.Errorf("it demands %+v", v)
	}
	binding := get[*admissionv1.ValidatingAdmissionPolicyBinding](t, objs, "ValidatingAdmissionPolicyBinding/wirelab-agent").Spec
	if binding.PolicyName != "wirelab-agent" || binding.MatchResources != nil || !slices.Equal(binding.ValidationActions, []admissionv1.ValidationAction{admissionv1.Deny}) {
		t.Errorf("it is bound by %+v", binding)
	}
}

func TestAgentHasTheLeastPrivileges(t *testing.T) {
	pod := get[*appsv1.DaemonSet](t, objects(t, ""), daemonSet).Spec.Template.Spec
	if !pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Errorf("host namespaces: network %v, PID %v, IPC %v; want the network only", pod.HostNetwork, pod.HostPID, pod.HostIPC)
	}
	sc := pod.Containers[0].SecurityContext
	want := []corev1.Capability{"NET_ADMIN", "SYS_ADMIN", "SYS_CHROOT"}
	if *sc.Privileged || *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem ||
		!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(sc.Capabilities.Add, want) {
		t.Errorf("the agent's rights are %+v, capabilities %+v", sc, sc.Capabilities)
	}
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationBidirectional {
			t.Errorf("mounts of the agent at %s reach the node", m.MountPath)
		}
		if m.MountPath == "/host" && !m.ReadOnly {
			t.Error("the node's root is writable")
		}
	}
}

func TestAgentRunsEverywhereAndStays(t *testing.T) {
	ds := get[*appsv1.DaemonSet](t, objects(t, ""), daemonSet)
	pod := ds.Spec.Template.Spec
	if !reflect.DeepEqual(pod.Tolerations, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}) {
		t.Errorf("tolerations %v, want all", pod.Tolerations)
	}
	if pod.PriorityClassName != "system-node-critical" {
		t.Errorf("priority class %q", pod.PriorityClassName)
	}
	c := pod.Containers[0]
	if c.Name != "agent" || c.StartupProbe == nil || c.LivenessProbe == nil || c.ReadinessProbe == nil {
		t.Errorf("container %s lacks a probe", c.Name)
	}
	if ds.Spec.Template.Labels["app.kubernetes.io/name"] != "wirelab-agent" {
		t.Errorf("labels of the pods: %v", ds.Spec.Template.Labels)
	}
	port := int(c.ReadinessProbe.HTTPGet.Port.IntVal)
	if want := config.Default().Health.Port; port != want {
		t.Errorf("probes ask port %d, the agent answers on %d", port, want)
	}
}

func TestImageAndAPIServer(t *testing.T) {
	pod := get[*appsv1.DaemonSet](t, objects(t, "{image: {repository: r/a, tag: t1, pullPolicy: Never}, k8sServiceHost: cp, k8sServicePort: 6443}"), daemonSet).Spec.Template.Spec
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		if c.Image != "r/a:t1" || c.ImagePullPolicy != corev1.PullNever {
			t.Errorf("container %s has image %s, policy %s", c.Name, c.Image, c.ImagePullPolicy)
		}
	}
	if got := env(pod.Containers[0]); got["KUBERNETES_SERVICE_HOST"] != "cp" || got["KUBERNETES_SERVICE_PORT"] != "6443" {
		t.Errorf("environment %v", got)
	}
	pod = get[*appsv1.DaemonSet](t, objects(t, "k8sServiceHost: cp"), daemonSet).Spec.Template.Spec
	if got := env(pod.Containers[0]); got["KUBERNETES_SERVICE_PORT"] != "443" {
		t.Errorf("environment %v, want port 443", got)
	}
	pod = get[*appsv1.DaemonSet](t, objects(t, ""), daemonSet).Spec.Template.Spec
	if _, set := env(pod.Containers[0])["KUBERNETES_SERVICE_HOST"]; set {
		t.Error("an address of the API server is set by default")
	}
	if pod.Containers[0].Image != "wirelab/agent:"+load(t).Metadata.AppVersion {
		t.Errorf("default image %s", pod.Containers[0].Image)
	}
}

// TestOtherSettingsAreOtherPods holds that a changed configuration restarts
// the agents, and an unchanged one does not.
func TestOtherSettingsAreOtherPods(t *testing.T) {
	sum := func(values string) string {
		return get[*appsv1.DaemonSet](t, objects(t, values), daemonSet).Spec.Template.Annotations["checksum/config"]
	}
	if sum("") == "" || sum("") != sum("MTU: 0") {
		t.Error("the checksum differs for the same settings")
	}
	if sum("") == sum("MTU: 1400") {
		t.Error("the checksum is the same for other settings")
	}
}

func TestNotesNameTheRelease(t *testing.T) {
	files, err := render(t, "")
	if err != nil {
		t.Fatal(err)
	}
	notes := files["wirelab/templates/NOTES.txt"]
	for _, part := range []string{"helm -n kube-system uninstall wirelab", "NetworkPolicies are not enforced"} {
		if !strings.Contains(notes, part) {
			t.Errorf("no %q in the notes: %s", part, notes)
		}
	}
}

func env(c corev1.Container) map[string]string {
	out := map[string]string{}
	for _, e := range c.Env {
		out[e.Name] = e.Value
	}
	return out
}
