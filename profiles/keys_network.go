package profiles

// halfReplaced is why Services are served by one of two and never by both.
const halfReplaced = "would leave some Services to kube-proxy and others to BPF, two translators for one packet; use true with cluster.kubeProxyMode none, or false"

func networkRows() []row {
	return []row{
		{
			key: "network", text: "How the cluster's network works. The names are those of the chart's values.",
		},
		{
			key: "network.routingMode", def: RoutingNative, allowed: []string{RoutingNative},
			text: "How packets reach the pods of another node: native sends them as they are, and the network between the nodes has to know the way.",
		},
		{
			key: "network.autoDirectNodeRoutes", def: "true",
			text: "Gives every node one kernel route for each other node's pods, by way of that node's address. It works among nodes on one layer 2 network. When it is off, these routes are yours to add, and until then pods on different nodes cannot reach each other.",
		},
		{
			key: "network.ipv4NativeRoutingCIDR", example: "10.0.0.0/8",
			text: "The addresses that pods reach with their own address, without masquerade. It must contain the pod subnet, and it is needed as long as masquerade is on.",
		},
		{
			key: "network.kubeProxyReplacement", def: "false", allowed: []string{"false", "true"},
			words:   map[string]string{"disabled": "false", "strict": "true"},
			refused: map[string]string{"partial": halfReplaced, "probe": halfReplaced},
			text:    "Whether wirelab serves Services in place of kube-proxy, from BPF maps. It takes cluster.kubeProxyMode none. strict and disabled are older words for true and false.",
		},
		{
			key: "network.enableIPv4Masquerade", def: "true",
			text: "Gives pod traffic that leaves the native-routing CIDR the address of its node, so that answers find the way back. The node's iptables does it, or BPF where network.bpf.masquerade is true.",
		},
		{
			key: "network.bpf", text: "Settings of the BPF programs.",
		},
		{
			key: "network.bpf.monitorAggregation", def: "maximum", allowed: []string{"none", "maximum"},
			text: "What `wirelab-agent monitor` gets to see: none reports every packet that a BPF program sees, maximum only those it drops.",
		},
		{
			key: "network.bpf.masquerade", def: "false",
			text: "Masquerades in BPF at the network devices, where network.enableIPv4Masquerade asks for it, instead of in iptables. Then nothing is left for the node's IP stack to do with pod traffic between nodes and to the outside, and BPF routes it past the stack (host routing). It takes network.kubeProxyReplacement.",
		},
		{
			key: "network.bpf.hostLegacyRouting", def: "false",
			text: "Keeps the node's IP stack, with its iptables and connection tracking, in the way of pod traffic even where BPF could route.",
		},
		{
			key: "network.bpf.allowFallback", def: "false",
			text: "Goes on with the node's IP stack on kernels that cannot route in BPF as the profile asks, instead of failing. lab status then says what was asked for, what is, and why.",
		},
		{
			key: "network.bpf.ctMax", def: "65536", example: "262144", min: 4096, max: 4194304,
			text: "How many flows a node remembers where Services or masquerade are in BPF; each takes about 300 bytes of kernel memory, whether it is there or not. Flows that nobody has answered, or that are over, get half of the room and never push out the others.",
		},
		{
			key: "network.installNoConntrackIptablesRules", def: "true",
			text: "Keeps traffic between pods out of the kernel's connection tracking where Services are in BPF and the node's IP stack routes. Set it to false where the nodes' own firewall rules let answers pass by their connection's state (ctstate ESTABLISHED).",
		},
		{
			key: "network.ipam", text: "Where pod addresses come from.",
		},
		{
			key: "network.ipam.mode", def: IPAMKubernetes, allowed: []string{IPAMKubernetes},
			text: "kubernetes takes the addresses of a node's pods from the podCIDR that Kubernetes gave the node.",
		},
		{
			key: "network.mtu", def: "0", example: "1400", min: 576, max: 65535, zero: true,
			text: "The MTU of pod interfaces in bytes. 0 takes that of the network device with the node's address, or the smallest of network.devices, which is right unless something between the nodes carries less. When it changes, pods that come later get the new one.",
		},
		{
			key: "network.devices", def: "[]", example: "eth0",
			text: "The nodes' network devices that lead to other nodes and outside: there Services are served to clients outside, and there BPF masquerades. An empty list means all that connect the node with others, as they come and go: those with a default route, the node's address or an address in a network, but not bridges and other devices of containers. They need Ethernet headers.",
		},
		{
			key: "network.debug", text: "What the agent logs beyond changes of state.",
		},
		{
			key: "network.debug.enabled", def: "false",
			text: "Makes the agent log at debug level, each call of the CNI plugin included.",
		},
		{
			key: "network.debug.verbose", allowed: []string{"", VerboseDatapath},
			text: "datapath also logs the packets that the BPF programs report, at most 50 a second. It takes network.debug.enabled as well.",
		},
	}
}
