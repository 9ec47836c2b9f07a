package show

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"wirelab.dev/wirelab/internal/api"
)

// identityRow is a number, whose it is and how many pods have it.
func identityRow(i api.Identity) []string {
	stands := joined(" ", labels(i.Labels), either(i.Retired, "(retired)", ""))
	if i.Name != "" {
		stands = "reserved: " + i.Name
	}
	return []string{id(i.ID), strconv.Itoa(len(i.Pods)), dash(i.Namespace), dash(i.ServiceAccount), stands}
}

// Identity is all of one number.
func Identity(i api.Identity) Block {
	var b Block
	b.Add("Identity", "%d", i.ID)
	if i.Name != "" {
		b.Add("Reserved", "%s", i.Name)
	} else {
		b.Add("Namespace", "%s", i.Namespace)
		b.Add("Service Account", "%s", i.ServiceAccount)
		b.Add("Labels", "%s", dash(labels(i.Labels)))
		b.Add("Retired", "%s", either(i.Retired, "yes: no pod gets it any more", "no"))
	}
	b.Add("Pods", "%s", dash(strings.Join(i.Pods, " ")))
	return b
}

// onNodes joins what nodes know of the same numbers; pods get their node's name behind theirs.
func onNodes(all []api.Identity, node string, more []api.Identity) []api.Identity {
	for _, m := range more {
		var pods []string
		for _, pod := range m.Pods {
			pods = append(pods, fmt.Sprintf("%s (%s)", pod, node))
		}
		m.Pods = pods
		same := slices.IndexFunc(all, func(have api.Identity) bool {
			have.Pods = m.Pods
			return reflect.DeepEqual(have, m)
		})
		if same < 0 {
			all = append(all, m)
			continue
		}
		all[same].Pods = append(all[same].Pods, pods...)
	}
	slices.SortStableFunc(all, func(a, b api.Identity) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// labeledEndpointRow is an endpoint with its number, which events have, its identity and what this stands for.
func labeledEndpointRow(e api.LabeledEndpoint) []string {
	pod := joined(" ", e.Namespace+"/"+e.Pod, either(e.Attached, "", "(without program)"), labels(e.Labels))
	return []string{e.Addr.String(), id(e.ID), id(e.Identity), pod}
}

// LabeledEndpoint is all of one endpoint.
func LabeledEndpoint(e api.LabeledEndpoint) Block {
	var b Block
	b.Add("Pod", "%s/%s", e.Namespace, e.Pod)
	b.Add("Address", "%s", e.Addr)
	b.Add("Endpoint", "%d", e.ID)
	b.Add("Identity", "%d", e.Identity)
	b.Add("Labels", "%s", dash(labels(e.Labels)))
	b.Add("Interface", "%s, index %d, MTU %d", e.HostIf, e.HostIndex, e.MTU)
	b.Add("MACs", "%s in the pod, %s on the node", e.PodMAC, e.HostMAC)
	b.Add("Program", "%s", either(e.Attached, "attached", "missing"))
	return b
}

// labels are as key=value, sorted.
func labels(all map[string]string) string {
	out := make([]string, 0, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		out = append(out, key+"="+all[key])
	}
	return strings.Join(out, " ")
}

func dash(text string) string { return cmp.Or(text, "-") }

// IdentityList is of the identities that a node knows, sorted by number.
func IdentityList() List[api.Identity] {
	return List[api.Identity]{
		Command: "identity list",
		About:   "Who is talking: numbers for sets of labels",
		Short:   "List identities, and how many pods have them",
		Long: `List the identities that are known: the reserved ones, and those of sets of labels, which are the
LabIdentity objects of the cluster. PODS is how many of the pods here have one.`,
		Table:  tableOf([]string{"ID", "PODS", "NAMESPACE", "SERVICE ACCOUNT", "LABELS"}, identityRow),
		Across: onNodes,
		Get: &Get[api.Identity]{
			What: "identity", Short: "Show one identity by its number, and the pods that have it", Example: "identity get 2",
			Is: func(i api.Identity, name string) bool { return name == id(i.ID) || name == i.Name && name != "" },
			Names: func(i api.Identity) []string {
				if i.Name != "" {
					return []string{i.Name}
				}
				return []string{id(i.ID)}
			},
			Describe: Identity,
		},
	}
}

// LabeledEndpointList is of the endpoints of a node, sorted by address.
func LabeledEndpointList() List[api.LabeledEndpoint] {
	return List[api.LabeledEndpoint]{
		Command: "endpoint list",
		About:   "Pods of a node: their addresses, identities and labels",
		Short:   "List endpoints with their identities and the labels that these stand for",
		Long: `List the pods of a node by address, each with the number that its node has given it, its identity
and the labels that the identity stands for. Monitor names both ends of a packet by these
numbers, as in "endpoint 3->4". health_endpoint is where other nodes probe this one.`,
		Narrow: "--identity 4", Filters: []string{"identity"}, Pick: Filter.Endpoints,
		Table: tableOf([]string{"ADDRESS", "ENDPOINT", "IDENTITY", "POD AND LABELS"}, labeledEndpointRow),
		Get: &Get[api.LabeledEndpoint]{
			What: "endpoint", Short: "Show one endpoint by its pod, its address, or its number on a node", Example: "endpoint get default/demo",
			Is: func(e api.LabeledEndpoint, name string) bool {
				if addr, err := netip.ParseAddr(name); err == nil {
					return addr == e.Addr
				}
				pod, err := api.ParsePodName(name)
				return name == strconv.FormatUint(uint64(e.ID), 10) || err == nil && pod == api.PodName{Namespace: e.Namespace, Name: e.Pod}
			},
			Names:    func(e api.LabeledEndpoint) []string { return []string{e.Namespace + "/" + e.Pod} },
			Describe: LabeledEndpoint,
		},
	}
}
