package agent

import (
	"context"
	"fmt"
	"strings"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/settings"
)

// feature is something that networks of this kind are known to do.
type feature struct {
	name   string
	needs  string
	kernel []string // parts of the kernel, as datapath.KernelHas knows them
	// is says how it is done, read back where the kernel does it; empty where it is off. nil: it is not implemented.
	is func(running) string
}

// running is what a node does.
type running struct {
	*api.Datapath
	want config.Config
}

// features are the known ones, those of one subject together.
func features() []feature {
	const services = "kubeProxyReplacement: true"
	return []feature{
		{"IPv4", "", nil, func(running) string { return "yes" }},
		{"IPv6", "", nil, nil},
		{"Native routing", "routingMode: native, and a network that knows where pods are", nil, func(r running) string {
			return when(r.Routing.Tunnel == nil, r.Routing.Network)
		}},
		{"Auto direct node routes", "routingMode: native, autoDirectNodeRoutes: true, nodes on one L2", nil, func(r running) string {
			return when(r.want.AutoDirectNodeRoutes && r.Routing.Tunnel == nil, fmt.Sprintf("%d routes", len(r.Routing.Routes)))
		}},
		{"Tunnel (VXLAN)", "routingMode: tunnel, tunnelProtocol: vxlan", []string{"bpf_skb_set_tunnel_key"}, tunnel(settings.TunnelVXLAN)},
		{"Tunnel (Geneve)", "routingMode: tunnel, tunnelProtocol: geneve", []string{"bpf_skb_set_tunnel_key"}, tunnel(settings.TunnelGeneve)},
		{"BPF host routing", "bpf.masquerade: true or enableIPv4Masquerade: false, with " + services, []string{"bpf_redirect_peer", "bpf_redirect_neigh", "bpf_fib_lookup"}, func(r running) string {
			return when(r.Routing.Host == string(settings.RoutingBPF), r.Routing.Host)
		}},
		{"Attachment by tcx", "kernel 6.6", nil, func(r running) string { return when(r.AttachMode == "tcx", r.AttachMode) }},
		{"netkit devices", "", nil, nil},
		{"BIG TCP", "", nil, nil},
		{"Masquerading (iptables)", "enableIPv4Masquerade: true", nil, func(r running) string {
			return when(r.Masquerading.Enabled && r.Masquerading.Kind != string(settings.MasqueradeBPF), r.Masquerading.Backend)
		}},
		{"Masquerading (BPF)", "enableIPv4Masquerade: true, bpf.masquerade: true, " + services, nil, func(r running) string {
			return when(r.Masquerading.Enabled && r.Masquerading.Kind == string(settings.MasqueradeBPF), strings.Join(r.Masquerading.Devices, " "))
		}},
		{"ip-masq-agent", "", nil, nil},
		{"Egress gateway", "", nil, nil},
		{"IPAM by Kubernetes", "ipam.mode: kubernetes", nil, func(r running) string {
			return when(r.want.IPAM.Mode == settings.IPAMKubernetes, r.PodCIDR.String())
		}},
		{"IPAM by cluster pool", "ipam.mode: cluster-pool", nil, func(r running) string {
			return when(r.want.IPAM.Mode == settings.IPAMClusterPool, r.PodCIDR.String())
		}},
		{"IPAM by several pools", "", nil, nil},
		{"CNI chaining", "", nil, nil},

		{"Kube-proxy replacement", services + ", no kube-proxy", nil, ifServices(func(*api.Services) string { return "True" })},
		{"Socket load balancing", services, nil, ifServices(func(s *api.Services) string { return strings.Join(s.Sockets, " ") })},
		{"NodePort", services, nil, ifServices(func(s *api.Services) string { return when(len(s.Devices) > 0, "SNAT at "+strings.Join(s.Devices, " ")) })},
		{"NodePort by DSR", "", nil, nil},
		{"NodePort acceleration (XDP)", "", []string{"XDP"}, nil},
		{"Maglev", "", nil, nil},
		{"HostPort", "", nil, func(r running) string {
			if r.Services != nil {
				return "BPF"
			}
			return "iptables"
		}},
		{"External IPs and load balancer addresses", services, nil, ifServices(func(*api.Services) string { return "yes" })},
		{"Source ranges of load balancers", services, nil, ifServices(func(*api.Services) string { return "yes" })},
		{"Session affinity", services, nil, ifServices(func(s *api.Services) string { return fmt.Sprintf("%d Service ports", s.Affinity) })},
		{"Graceful termination", services, nil, ifServices(func(*api.Services) string { return "yes" })},
		{"Topology hints", services, nil, ifServices(func(*api.Services) string { return "yes" })},
		{"Pods untracked by the kernel", "installNoConntrackIptablesRules: true, " + services, nil, func(r running) string { return when(r.Untracked, "yes") }},
		{"Local redirect policy", "", nil, nil},
		{"Load balancer IPAM", "", nil, nil},
		{"L2 announcements", "", nil, nil},
		{"BGP control plane", "", nil, nil},
		{"SCTP", "", nil, nil},
		{"Multicast", "", nil, nil},
		{"NAT46/64", "", nil, nil},
		{"SRv6", "", nil, nil},

		{"Identities", "", nil, func(running) string { return "LabIdentity objects" }},
		{"NetworkPolicy", "", nil, nil},
		{"Policies by L7 and DNS names", "", nil, nil},
		{"Host firewall", "", nil, nil},
		{"Encryption (WireGuard)", "", nil, nil},
		{"Encryption (IPsec)", "", nil, nil},
		{"Mutual authentication", "", nil, nil},
		{"Ingress and Gateway API", "", nil, nil},
		{"Cluster mesh", "", nil, nil},
		{"KVStore", "", nil, nil},
		{"Bandwidth manager", "", nil, nil},
		{"Socket acceleration", "", []string{"socket maps"}, nil},

		{"Monitor", "", []string{"ring buffers"}, func(r running) string { return "aggregation " + r.MonitorAggregation }},
		{"Flow records", "flows.capacity", nil, func(r running) string {
			return when(r.want.Flows.Capacity != 0, fmt.Sprintf("the latest %d", r.want.Flows.Capacity))
		}},
		{"Flow metrics", "flows.metrics, flows.capacity, prometheus.enabled: true", nil, func(r running) string {
			return strings.Join(r.want.Flows.Metrics, " ")
		}},
		{"Flow metrics of DNS and HTTP", "", nil, nil},
		{"Debug of the datapath", "debug.enabled: true, debug.verbose: datapath", nil, func(r running) string {
			return when(r.want.Debug.Enabled && r.want.Debug.Verbose == settings.VerboseDatapath, "datapath")
		}},
		{"Prometheus metrics", "prometheus.enabled: true", nil, func(r running) string {
			return when(r.want.Prometheus.Enabled, fmt.Sprintf("port %d", r.want.Prometheus.Port))
		}},
		{"Cluster health", "clusterHealth.enabled: true", nil, func(r running) string {
			return when(r.want.ClusterHealth.Enabled, fmt.Sprintf("port %d", r.want.ClusterHealth.Port))
		}},
	}
}

func when(on bool, how string) string {
	if on {
		return how
	}
	return ""
}

func tunnel(protocol string) func(running) string {
	return func(r running) string {
		t := r.Routing.Tunnel
		if t == nil || t.Protocol != protocol {
			return ""
		}
		return fmt.Sprintf("%s, port %d", t.Device, t.Port)
	}
}

func ifServices(how func(*api.Services) string) func(running) string {
	return func(r running) string {
		if r.Services == nil {
			return ""
		}
		return how(r.Services)
	}
}

// featureList says of each known feature whether it is on, as the kernel has it.
func (a *Agent) featureList(ctx context.Context, n *node) ([]api.Feature, error) {
	d, err := n.dp.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read back what the node does: %w", err)
	}
	return listFeatures(running{&d, a.cfg}, datapath.KernelHas)
}

func listFeatures(r running, kernelHas func(string) (bool, error)) (out []api.Feature, err error) {
	for _, f := range features() {
		x := api.Feature{Name: f.name, Needs: f.needs, State: api.FeatureNone}
		if f.is != nil {
			if x.Value = f.is(r); x.Value != "" {
				x.State = api.FeatureOn
			} else {
				x.State = api.FeatureOff
			}
		}
		if x.Kernel, err = kernelText(f.kernel, kernelHas); err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// kernelText says what of the parts the kernel has, and what it lacks.
func kernelText(parts []string, kernelHas func(string) (bool, error)) (string, error) {
	var has, lacks []string
	for _, p := range parts {
		ok, err := kernelHas(p)
		if err != nil {
			return "", err
		}
		if ok {
			has = append(has, p)
		} else {
			lacks = append(lacks, p)
		}
	}
	var out []string
	if len(has) > 0 {
		out = append(out, "has "+strings.Join(has, ", "))
	}
	if len(lacks) > 0 {
		out = append(out, "lacks "+strings.Join(lacks, ", "))
	}
	return strings.Join(out, "; "), nil
}
