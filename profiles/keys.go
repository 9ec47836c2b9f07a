package profiles

// row is what the table says about one key; its type comes from the field of [Profile]
// that has the key as its tag. A test holds the table against the type.
type row struct {
	key string
	// def is the default as it would be typed after --set.
	def string
	// allowed are the values there are; empty: min and max, or any.
	allowed []string
	// words are older spellings of allowed values.
	words map[string]string
	// refused are words that other networks know and this one does not, with the reason.
	refused map[string]string
	// min and max hold for whole numbers (inclusive) and for durations (in seconds).
	min, max int
	// zero is a number allowed besides the range, with a meaning of its own.
	zero bool
	// required keys have no default and must be in the file itself.
	required bool
	// fixed keys belong to the file: no --set, no environment.
	fixed bool
	// example is a value to show where the default is empty.
	example string
	text    string
}

// table lists every section and setting in the order of the file.
func table() []row {
	var all []row
	for _, part := range [][]row{headRows(), clusterRows(), networkRows(), demoRows(), verifyRows()} {
		all = append(all, part...)
	}
	return all
}

func headRows() []row {
	return []row{
		{
			key: "", text: "One lab, described completely: its cluster, its network, the demo in it and how it is checked.",
		},
		{
			key: "apiVersion", required: true, fixed: true, allowed: []string{APIVersion},
			text: "The version of this format. It stands at the top of every profile.",
		},
		{
			key: "kind", required: true, fixed: true, allowed: []string{Kind},
			text: "Says that the file is a profile.",
		},
		{
			key:  "metadata",
			text: "The name and description of the profile. They are never taken over from an extended profile.",
		},
		{
			key: "metadata.name", required: true, fixed: true, example: "my-lab",
			text: "A lab made from the profile has this name unless `lab up` is given another with --name. Lower-case letters, digits and dashes, at most 49, because the control-plane node is named after it.",
		},
		{
			key: "metadata.description", fixed: true, example: "my-lab for the Tuesday workshop",
			text: "One sentence for `lab profile list`.",
		},
		{
			key: "extends", fixed: true, example: "kubeproxy",
			text: "The profile this one starts from: a shipped profile by its name, or a file by its path relative to this file. Sections merge, setting by setting; a list replaces the list it finds.",
		},
	}
}

func clusterRows() []row {
	return []row{
		{
			key: "cluster", text: "The Kubernetes cluster under the network, made by kind.",
		},
		{
			key: "cluster.controlPlanes", def: "1", min: 1, max: 1,
			text: "How many control-plane nodes there are. A lab has exactly one: more would need a load balancer in front of them.",
		},
		{
			key: "cluster.workers", def: "2", min: 0, max: 50,
			text: "How many worker nodes there are. Each is a container with a kubelet of its own. With none there is one node only and nothing to see across nodes.",
		},
		{
			key: "cluster.image", example: "kindest/node:v1.37.0",
			text: "The node image. Empty means the one that kind is made for or, where no registry answers, the one that `make node-image` builds.",
		},
		{
			key: "cluster.podSubnet", def: "10.244.0.0/16",
			text: "Where pod addresses come from: each node gets a /24 of it. It must not overlap the Service subnet.",
		},
		{
			key: "cluster.serviceSubnet", def: "10.96.0.0/16",
			text: "Where the addresses of Services (ClusterIPs) come from. It must lie between a /12 and a /28.",
		},
		{
			key: "cluster.kubeProxyMode", def: KubeProxyIPTables, allowed: []string{KubeProxyIPTables, KubeProxyNone},
			text: "How kube-proxy, which serves Services, writes its rules; none leaves it out, and then network.kubeProxyReplacement must be true.",
		},
		{
			key: "cluster.removeControlPlaneTaint", def: "true",
			text: "Lets ordinary pods run on the control-plane node, so that the demo runs on every node.",
		},
		{
			key: "cluster.apiServerPort", def: "0", example: "6443", min: 0, max: 65535,
			text: "The port on this machine's loopback at which the API server answers. 0 takes any free one, which lets several labs live side by side.",
		},
		{
			key: "cluster.registryMirrors", def: "[]", example: "registry.example=http://192.168.1.5:5000",
			text: "Registries that every node asks for images in place of the real ones, so that a room full of people can share one. After --set and in the environment it is written host=endpoint, several separated by commas.",
		},
		{
			key: "cluster.registryMirrors[].host", required: true, example: "registry.example",
			text: "The registry as it stands in image names: a host, or host:port.",
		},
		{
			key: "cluster.registryMirrors[].endpoint", required: true, example: "http://192.168.1.5:5000",
			text: "Where the nodes ask instead: an http or https URL. localhost would be the node itself, so it has to be an address that the nodes reach.",
		},
	}
}

func demoRows() []row {
	return []row{
		{
			key: "demo", text: "The workload a lab starts with: a pod on every node that says who answered and who asked, and a NodePort Service in front of it.",
		},
		{
			key: "demo.enabled", def: "true",
			text: "Deploys the demo.",
		},
		{
			key: "demo.port", def: "8080", min: 1, max: 65535,
			text: "The port of the Service on its ClusterIP.",
		},
		{
			key: "demo.targetPort", def: "80", min: 1, max: 65535,
			text: "The port the demo's pods listen on.",
		},
		{
			key: "demo.nodePort", def: "32000", min: 30000, max: 32767,
			text: "The port of the Service on every node.",
		},
	}
}

func verifyRows() []row {
	return []row{
		{
			key: "verify", text: "How `lab verify` checks the lab; `lab up` runs it at its end.",
		},
		{
			key: "verify.timeout", def: "1m", min: 10, max: 3600, example: "90s",
			text: "How long all checks together may take.",
		},
		{
			key: "verify.skip", def: "[]", example: "dns,services/*",
			text: "Checks to leave out: a name such as dns/service, a group such as dns, or either with * and ?. `lab verify --list` prints the names. What is left out is not in the report.",
		},
	}
}
