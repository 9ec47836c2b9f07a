package profiles

import (
	"reflect"

	"wirelab.dev/wirelab/internal/settings"
)

// newSchema gives the keys of a profile: the fields of [Profile] joined with the table.
func newSchema() *settings.Key { return settings.NewTree(table(), reflect.TypeFor[Profile]()) }

// table lists every section and setting in the order of the file.
func table() []settings.Row {
	var all []settings.Row
	network := settings.Row{Path: "network", Text: "How the cluster's network works. The names are those of the chart's values."}
	parts := [][]settings.Row{headRows(), clusterRows(), {network}, settings.NetworkRows("network"), demoRows(), verifyRows()}
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func headRows() []settings.Row {
	return []settings.Row{
		{
			Path: "", Text: "One lab, described completely: its cluster, its network, the demo in it and how it is checked.",
		},
		{
			Path: "apiVersion", Required: true, Fixed: true, Allowed: []string{APIVersion},
			Text: "The version of this format. It stands at the top of every profile.",
		},
		{
			Path: "kind", Required: true, Fixed: true, Allowed: []string{Kind},
			Text: "Says that the file is a profile.",
		},
		{
			Path: "metadata",
			Text: "The name and description of the profile. They are never taken over from an extended profile.",
		},
		{
			Path: "metadata.name", Required: true, Fixed: true, Example: "my-lab",
			Text: "A lab made from the profile has this name unless `lab up` is given another with --name. Lower-case letters, digits and dashes, at most 49, because the control-plane node is named after it.",
		},
		{
			Path: "metadata.description", Fixed: true, Example: "my-lab for the Tuesday workshop",
			Text: "One sentence for `lab profile list`.",
		},
		{
			Path: "extends", Fixed: true, Example: "kubeproxy",
			Text: "The profile this one starts from: a shipped profile by its name, or a file by its path relative to this file. Sections merge, setting by setting; a list replaces the list it finds.",
		},
	}
}

// madeWith is why most of the section cluster cannot change in a lab that is up.
const madeWith = "the cluster is made with it"

func clusterRows() []settings.Row {
	return []settings.Row{
		{
			Path: "cluster", Text: "The Kubernetes cluster under the network, made by kind.",
		},
		{
			Path: "cluster.controlPlanes", Default: "1", Min: 1, Max: 1,
			Stays: madeWith,
			Text:  "How many control-plane nodes there are. A lab has exactly one: more would need a load balancer in front of them.",
		},
		{
			Path: "cluster.workers", Default: "2", Min: 0, Max: 50,
			Stays: madeWith,
			Text:  "How many worker nodes there are. Each is a container with a kubelet of its own. With none there is one node only and nothing to see across nodes.",
		},
		{
			Path: "cluster.image", Example: "kindest/node:v1.37.0",
			Stays: madeWith,
			Text:  "The node image. Empty means the one that kind is made for or, where no registry answers, the one that `make node-image` builds. It says which Kubernetes the lab has: `make node-image KUBERNETES=v1.36.3` builds wirelab/node:v1.36.3.",
		},
		{
			Path: "cluster.podSubnet", Default: "10.244.0.0/16",
			Stays: madeWith,
			Text:  "The addresses that Kubernetes takes for pods', kube-proxy above all, which masquerades others. With network.ipam.mode kubernetes each node gets a /24 of it; with cluster-pool it is what is around the pool, unless it is set, and has to contain it. It must not overlap the Service subnet.",
		},
		{
			Path: "cluster.serviceSubnet", Default: "10.96.0.0/16",
			Stays: madeWith,
			Text:  "Where the addresses of Services (ClusterIPs) come from. It must lie between a /12 and a /28.",
		},
		{
			Path: "cluster.kubeProxyMode", Default: KubeProxyIPTables, Allowed: []string{KubeProxyIPTables, KubeProxyNone},
			Stays: madeWith,
			Text:  "How kube-proxy, which serves Services, writes its rules; none leaves it out, and then network.kubeProxyReplacement must be true.",
		},
		{
			Path: "cluster.removeControlPlaneTaint", Default: "true",
			Live: "pods that are there stay",
			Text: "Lets ordinary pods run on the control-plane node. The demo runs on every node in any case.",
		},
		{
			Path: "cluster.apiServerPort", Default: "0", Example: "6443", Min: 0, Max: 65535,
			Stays: madeWith,
			Text:  "The port on this machine's loopback at which the API server answers. 0 takes any free one, which lets several labs live side by side.",
		},
		{
			Path: "cluster.registryMirrors", Default: "[]", Example: "registry.example=http://192.168.1.5:5000",
			Live: "nodes ask them for the next image",
			Text: "Registries that every node asks for images in place of the real ones, so that a room full of people can share one. After --set and in the environment it is written host=endpoint, several separated by commas.",
		},
		{
			Path: "cluster.registryMirrors[].host", Required: true, Example: "registry.example",
			Text: "The registry as it stands in image names: a host, or host:port.",
		},
		{
			Path: "cluster.registryMirrors[].endpoint", Required: true, Example: "http://192.168.1.5:5000",
			Text: "Where the nodes ask instead: an http or https URL. localhost would be the node itself, so it has to be an address that the nodes reach.",
		},
	}
}

func demoRows() []settings.Row {
	return []settings.Row{
		{
			Path: "demo", Text: "The workload a lab starts with: a pod on every node that says who answered and who asked, and a NodePort Service in front of it.",
		},
		{
			Path: "demo.enabled", Default: "true",
			Live: "the demo comes or goes",
			Text: "Deploys the demo.",
		},
		{
			Path: "demo.port", Default: "8080", Min: 1, Max: 65535,
			Live: "connections go on, and new ones have to come to the new port",
			Text: "The port of the Service on its ClusterIP.",
		},
		{
			Path: "demo.targetPort", Default: "80", Min: 1, Max: 65535,
			Live: "the demo's pods are made anew, one after another",
			Text: "The port the demo's pods listen on.",
		},
		{
			Path: "demo.nodePort", Default: "32000", Min: 30000, Max: 32767,
			Live: "connections go on, and new ones have to come to the new port",
			Text: "The port of the Service on every node.",
		},
	}
}

func verifyRows() []settings.Row {
	return []settings.Row{
		{
			Path: "verify", Text: "How `lab verify` checks the lab; `lab up` runs it at its end.",
		},
		{
			Path: "verify.timeout", Default: "1m", Min: 10, Max: 3600, Example: "90s",
			Live: "it counts from the next checks on",
			Text: "How long all checks together may take.",
		},
		{
			Path: "verify.skip", Default: "[]", Example: "dns,services/*",
			Live: "it counts from the next checks on",
			Text: "Checks to leave out: a name such as dns/service, a group such as dns, or either with * and ?. `lab verify --list` prints the names. What is left out is not in the report.",
		},
	}
}
