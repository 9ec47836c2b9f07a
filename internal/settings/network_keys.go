package settings

// halfReplaced is why Services are served by one of two and never by both.
const halfReplaced = "would leave some Services to kube-proxy and others to BPF, two translators for one packet; use true without kube-proxy (in a profile, cluster.kubeProxyMode none), or false"

// needsLayer7 is why two known groups of metrics are not offered.
const needsLayer7 = "needs events of layer 7, and wirelab's programs report packets, of which they read headers up to layer 4; leave it out"

// What comes of changing a setting in a cluster that is up, or why it cannot change there.
const (
	byAgents     = "agents begin anew with it, one node after another"
	masqueraded  = "connections that this masquerades otherwise may have to begin anew"
	oneByOne     = "nodes change one by one and lose each other's packets meanwhile"
	keepMTU      = "pods keep the MTU that they began with"
	madeWith     = "the cluster is made with it" // with kube-proxy or without
	keepPodCIDRs = "nodes keep the podCIDRs that they have"
)

// NetworkRows is the table of [Network]'s keys, in the order of its fields. At is where they are in the document: the
// path of their section, or empty where they are at the top.
func NetworkRows(at string) []Row {
	rows := networkRows()
	for i := range rows {
		rows[i].Path = Join(at, rows[i].Path)
	}
	return rows
}

func networkRows() []Row {
	return []Row{
		{
			Path: "routingMode", Default: RoutingTunnel, Allowed: []string{RoutingNative, RoutingTunnel},
			Stays: oneByOne + ", and " + keepMTU,
			Text:  "How packets reach the pods of another node: native sends them as they are, and the network between the nodes has to know the way; tunnel wraps them in packets between the nodes' own addresses, so that it need not.",
		},
		{
			Path: "tunnelProtocol", Default: TunnelVXLAN, Allowed: []string{TunnelVXLAN, TunnelGeneve},
			Stays: oneByOne,
			Text:  "What packets are wrapped in where network.routingMode is tunnel. Either carries the identity of who sent them as its network's number.",
		},
		{
			Path: "tunnelPort", Default: "0", Example: "8473", Min: 1, Max: 65535, Zero: true,
			Stays: oneByOne,
			Text:  "The UDP port of the tunnel, the same on all nodes. 0 is the protocol's own: 8472 for vxlan, 6081 for geneve.",
		},
		{
			Path: "autoDirectNodeRoutes", Default: "false",
			Live: byAgents + "; where these routes go, something else has to lay them first",
			Text: "Gives every node one kernel route for each other node's pods, by way of that node's address. It works among nodes on one layer 2 network. When it is off and network.routingMode is native, these routes are yours to add, and until then pods on different nodes cannot reach each other. A tunnel has no use for them.",
		},
		{
			Path: "ipv4NativeRoutingCIDR", Example: "10.0.0.0/8",
			Live: byAgents + "; " + masqueraded,
			Text: "The addresses that pods reach with their own address, without masquerade. It must contain the pod subnet, and it is needed as long as masquerade is on.",
		},
		{
			Path: "kubeProxyReplacement", Default: "false", Allowed: []string{"false", "true"},
			Stays:   madeWith,
			Words:   map[string]string{"disabled": "false", "strict": "true"},
			Refused: map[string]string{"partial": halfReplaced, "probe": halfReplaced},
			Text:    "Whether wirelab serves Services in place of kube-proxy, from BPF maps. It takes cluster.kubeProxyMode none. strict and disabled are older words for true and false.",
		},
		{
			Path: "enableIPv4Masquerade", Default: "true",
			Live: byAgents + "; " + masqueraded,
			Text: "Gives pod traffic that leaves the native-routing CIDR the address of its node, so that answers find the way back. The node's iptables does it, or BPF where network.bpf.masquerade is true.",
		},
		{
			Path: "bpf", Text: "Settings of the BPF programs.",
		},
		{
			Path: "bpf.monitorAggregation", Default: AggregationMaximum, Allowed: []string{AggregationNone, AggregationMedium, AggregationMaximum},
			Live: byAgents,
			Text: "Which packets the BPF programs report. maximum: those that are dropped. medium: also, of each flow, its start, its first reply, its end, and one packet in 5 seconds, with what the flow has sent so far. none: every packet of pods, where it comes in and where it goes.",
		},
		{
			Path: "bpf.monitorPayload", Default: "128", Example: "256", Min: MinPayload, Max: MaxPayload,
			Live: byAgents,
			Text: "How many bytes of a packet a report has, from its Ethernet header on.",
		},
		{
			Path: "bpf.masquerade", Default: "false",
			Live: byAgents + "; " + masqueraded,
			Text: "Masquerades in BPF at the network devices, where network.enableIPv4Masquerade asks for it, instead of in iptables. Then nothing is left for the node's IP stack to do with pod traffic between nodes and to the outside, and BPF routes it past the stack (host routing). It takes network.kubeProxyReplacement.",
		},
		{
			Path: "bpf.hostLegacyRouting", Default: "false",
			Live: byAgents,
			Text: "Keeps the node's IP stack, with its iptables and connection tracking, in the way of pod traffic even where BPF could route.",
		},
		{
			Path: "bpf.allowFallback", Default: "false",
			Live: byAgents,
			Text: "Goes on with the node's IP stack on kernels that cannot route in BPF as the profile asks, instead of failing. lab status then says what was asked for, what is, and why.",
		},
		{
			Path: "bpf.ctMax", Default: "65536", Example: "262144", Min: MinFlows, Max: MaxFlows,
			Live: byAgents + "; flows that are known go on",
			Text: "How many flows a node remembers where Services or masquerade are in BPF; each takes about 300 bytes of kernel memory, whether it is there or not. Flows that nobody has answered, or that are over, get half of the room and never push out the others.",
		},
		{
			Path: "installNoConntrackIptablesRules", Default: "true",
			Live: byAgents,
			Text: "Keeps traffic between pods out of the kernel's connection tracking where Services are in BPF and the node's IP stack routes. Set it to false where the nodes' own firewall rules let answers pass by their connection's state (ctstate ESTABLISHED).",
		},
		{
			Path: "ipam", Text: "Where pod addresses come from.",
		},
		{
			Path: "ipam.mode", Default: IPAMKubernetes, Allowed: []string{IPAMKubernetes, IPAMClusterPool},
			Stays: keepPodCIDRs,
			Text:  "Who gives nodes the podCIDRs that their pods' addresses are from. kubernetes: Kubernetes does, in the node's spec.podCIDR. cluster-pool: wirelab's operator does, out of network.ipam.operator.clusterPoolIPv4PodCIDRList, in the node's LabNode.",
		},
		{
			Path: "ipam.operator", Text: "The pool of podCIDRs, where network.ipam.mode is cluster-pool.",
		},
		{
			Path: "ipam.operator.clusterPoolIPv4PodCIDRList", Default: "[10.0.0.0/12]", Example: "10.0.0.0/12",
			Stays: keepPodCIDRs,
			Text:  "The CIDRs that podCIDRs are cut out of, in this order. They must be inside the native-routing CIDR where masquerade is on. What nodes have they keep when the list changes; others get theirs out of the new one.",
		},
		{
			Path: "ipam.operator.clusterPoolIPv4MaskSize", Default: "24", Min: 8, Max: 30,
			Stays: keepPodCIDRs,
			Text:  "How large a node's podCIDR is, as the length of its prefix: 24 has room for 253 pods.",
		},
		{
			Path: "mtu", Default: "0", Example: "1400", Min: MinMTU, Max: 65535, Zero: true, Chart: "MTU",
			Stays: keepMTU,
			Text:  "The MTU of pod interfaces in bytes. 0 takes that of the network device with the node's address, or the smallest of network.devices, which is right unless something between the nodes carries less. When it changes, pods that come later get the new one.",
		},
		{
			Path: "devices", Default: "[]", Example: "eth0",
			Live: byAgents + "; connections through a device that is left out have to begin anew",
			Text: "The nodes' network devices that lead to other nodes and outside: there Services are served to clients outside, and there BPF masquerades. An empty list means all that connect the node with others, as they come and go: those with a default route, the node's address or an address in a network, but not bridges and other devices of containers. They need Ethernet headers.",
		},
		{
			Path: "labels", Text: "Which labels of a pod are part of its identity, with its namespace and service account: pods that differ in them have different identities. An item is a label's key, or the beginning of keys with * behind it.",
		},
		{
			Path: "labels.include", Default: "[]", Example: "app,app.kubernetes.io/*",
			Live: byAgents + "; pods get the identities of their other labels",
			Text: "Only these labels count. When it is empty, all labels do but those that differ by replica, revision or place, such as pod-template-hash and job-name; one of these counts when it is here by its key.",
		},
		{
			Path: "labels.exclude", Default: "[]", Example: "build,ci.example.com/*",
			Live: byAgents + "; pods get the identities of their other labels",
			Text: "Labels that never count. Leave out here what is different in every pod, or changes often: each set of labels takes one of 65,280 numbers.",
		},
		{
			Path: "flows", Text: "What a node remembers of the packets that it has seen, for lab flows.",
		},
		{
			Path: "flows.capacity", Default: "4096", Min: 1, Max: MaxFlowRecords, Zero: true,
			Live: byAgents + "; flows kept so far are forgotten",
			Text: "How many flows a node keeps, the latest ones: each packet that was dropped, and each other one that network.bpf.monitorAggregation has the programs report. 0 keeps none. As long as flows are kept, the agent reads what programs report, so that with network.bpf.monitorAggregation none they write a record of each packet, which costs throughput; with maximum they write drops alone, and packets that pass cost nothing more.",
		},
		{
			Path: "flows.metrics", Default: "[]", Example: "drop,flow",
			Live:    byAgents,
			Allowed: []string{FlowMetricsDrop, FlowMetricsTCP, FlowMetricsFlow, FlowMetricsPorts, FlowMetricsICMP},
			Refused: map[string]string{"dns": needsLayer7, "http": needsLayer7},
			Text:    "Groups of metrics that agents make of flows and serve to Prometheus. drop: drops by reason. flow: flows by verdict and place. tcp: flags of TCP. port-distribution: packets by destination port. icmp: messages by type. They count what network.bpf.monitorAggregation has the programs report, with maximum drops alone. docs/metrics.md lists the series.",
		},
		{
			Path: "flows.relay", Text: "wirelab-relay, a Deployment that tells the flows of all nodes.",
		},
		{
			Path: "flows.relay.enabled", Default: "false",
			Live: byAgents + "; the relay comes or goes",
			Text: "Runs wirelab-relay, which speaks the flow API observer.Observer over gRPC for the whole cluster, at port 4245 of the Service wirelab-relay. Agents answer it, and nobody else, by mutual TLS at network.flows.relay.agentPort.",
		},
		{
			Path: "flows.relay.tls", Default: "false",
			Live: byAgents + "; so does the relay",
			Text: "Has wirelab-relay answer only clients that have a certificate of its CA, such as that of the Secret wirelab-relay-client. Without it, every pod that reaches the Service sees who talks with whom.",
		},
		{
			Path: "flows.relay.agentPort", Default: "4244", Min: 1, Max: 65535,
			Live: byAgents + "; so does the relay",
			Text: "TCP port that agents answer wirelab-relay at, on the node's address, the same on all nodes. Nothing listens there without network.flows.relay.enabled.",
		},
		{
			Path: "debug", Text: "What the agent logs beyond changes of state.",
		},
		{
			Path: "debug.enabled", Default: "false",
			Live: byAgents,
			Text: "Makes the agent log at debug level, each call of the CNI plugin included.",
		},
		{
			Path: "debug.verbose", Allowed: []string{"", VerboseDatapath},
			Live: byAgents,
			Text: "datapath has the BPF programs report each step of what they decide about a packet, and the agent log the packets that they report, at most 50 a second. It takes network.debug.enabled as well.",
		},
	}
}
