package show

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wirelab.dev/wirelab/internal/api"
)

// List describes one list that every agent keeps. A command of the agent's shows
// that of its node, one of lab's those of all nodes.
type List[T any] struct {
	Command string // what follows the program's name
	About   string // what it is a list of
	Short   string
	Long    string
	Narrow  string // flags of an example that does not show everything; may be empty
	Filters []string
	Pick    func(Filter, []T) []T // nil: there are no filters
	Table   func([]T) Table
	// Across joins what a node has to what those before it have, where all nodes list the same things; nil: they do not.
	Across func(all []T, node string, more []T) []T
	Get    *Get[T] // nil: one of the things cannot be asked for
}

// Get describes the command that shows one thing of a list, which is beside the list's.
type Get[T any] struct {
	What     string // it is, in a word
	Short    string
	Example  string               // what follows the program's name
	Is       func(T, string) bool // whether it is the one that a person names so
	Names    func(T) []string     // what it is called, for a shell that completes
	Describe func(T) Block
}

// Find are the things of that name, of which there is one, or a few that are called the same.
func (g Get[T]) Find(all []T, name string) ([]T, error) {
	found := keep(all, func(t T) bool { return g.Is(t, name) })
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no %s %s: %s list has what there is", g.What, name, g.What)
	}
	return found, nil
}

// AllNames are the names of all, sorted.
func (g Get[T]) AllNames(all []T) (names []string) {
	for _, t := range all {
		names = append(names, g.Names(t)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Args are the words of the command.
func (l List[T]) Args() []string { return strings.Fields(l.Command) }

// Example is help on the command of a program, which may have flags of its own.
func (l List[T]) Example(program, flags string) string {
	plain := "  " + program + " " + l.Command
	narrow := strings.Join(strings.Fields(flags+" "+l.Narrow), " ")
	if narrow == "" {
		return plain
	}
	return plain + "\n" + plain + " " + narrow
}

// ServiceList is of Services, sorted by name.
func ServiceList() List[api.Service] {
	return List[api.Service]{
		Command: "service list",
		About:   "Services as a node's maps have them",
		Short:   "List Services with their addresses and the backends in use",
		Long: `List Services with their addresses and, for each of these, the backends that a node sends new
connections to, read back from its maps. "here" is behind a backend on the node itself, "inside only"
behind one that clients outside the cluster are not sent to. It fails in a mode that leaves Services to
kube-proxy.`,
		Narrow: "--service default/demo -o json", Filters: []string{"service", "frontend"},
		Pick: Filter.Services, Table: Services,
	}
}

// FrontendList is of the entries of lab_services, sorted by address.
func FrontendList() List[api.Frontend] {
	return List[api.Frontend]{
		Command: "bpf lb list",
		About:   "Frontends and their backends",
		Short:   "List the frontends and, a line each, their backends",
		Long: `List the frontends in a node's map lab_services and, a line each, the backends of their lists in
lab_slots. FROM says who meets an entry: pods and processes of the node (inside), what comes
in at a NIC (outside), or both.`,
		Narrow: "--frontend 10.96.0.10:53", Filters: []string{"service", "frontend"},
		Pick: Filter.Frontends, Table: Frontends,
	}
}

// FlowList is of the entries of lab_ct.
func FlowList() List[api.Flow] {
	return List[api.Flow]{
		Command: "bpf ct list",
		About:   "Translated flows, as they are opened",
		Short:   "List translated flows, as they are opened",
		Long: `List the flows in a node's map lab_ct: what is sent, and what it goes on as. Flows that were
translated at a socket are not here: their packets need no translation.`,
		Narrow: "--service default/demo --address 10.0.1.7", Filters: []string{"service", "address"},
		Pick: Filter.Flows, Table: flowTable("SENT"),
	}
}

// TranslationList is of the entries of lab_nat.
func TranslationList() List[api.Flow] {
	return List[api.Flow]{
		Command: "bpf nat list",
		About:   "Translated flows, as their answers come",
		Short:   "List translated flows, as their answers come",
		Long:    `List the flows in a node's map lab_nat: what answers, and what the client sees as its answer.`,
		Narrow:  "--address 172.18.0.4", Filters: []string{"service", "address"},
		Pick: Filter.Flows, Table: flowTable("ANSWER"),
	}
}

// EndpointList is of the entries of lab_endpoints, sorted by address.
func EndpointList() List[api.Endpoint] {
	return List[api.Endpoint]{
		Command: "bpf endpoint list",
		About:   "Pods of a node, as packets find them",
		Short:   "List the map of endpoints: address, number, device and MACs",
		Long:    `List a node's map lab_endpoints, by which packets find the pods of the node.`,
		Table: tableOf([]string{"ADDRESS", "ID", "IFINDEX", "MAC", "NODE MAC", "POD"}, func(e api.Endpoint) []string {
			device := strconv.Itoa(e.HostIndex)
			return []string{e.Addr.String(), id(e.ID), device, e.PodMAC.String(), e.HostMAC.String(), e.Namespace + "/" + e.Pod}
		}),
	}
}

// IPCacheList is of the entries of lab_ipcache, sorted by prefix.
func IPCacheList() List[api.IPCacheEntry] {
	return List[api.IPCacheEntry]{
		Command: "bpf ipcache list",
		About:   "Who has which address",
		Short:   "List prefixes with the identity of who has their addresses, and the node these are on",
		Long: `List a node's map lab_ipcache, in which the longest prefix of an address says who has it. NODE is
the other node that the address is on, by its own address; - is for what is on this node, or on
none.`,
		Narrow: "--identity 6", Filters: []string{"identity"}, Pick: Filter.IPCache,
		Table: tableOf([]string{"PREFIX", "IDENTITY", "NODE"}, func(e api.IPCacheEntry) []string {
			node := "-"
			if e.Node.IsValid() {
				node = e.Node.String()
			}
			return []string{e.Prefix.String(), id(e.Identity), node}
		}),
	}
}

// TunnelList is of the other ends of the tunnel, sorted by podCIDR.
func TunnelList() List[api.TunnelEnd] {
	return List[api.TunnelEnd]{
		Command: "bpf tunnel list",
		About:   "Where the tunnel leads",
		Short:   "List the pod CIDRs of other nodes, and the address that the tunnel leads to for each",
		Long: `List the pod CIDRs of other nodes in a node's map lab_ipcache, and the address of the node that
packets to each come out of the tunnel at. It fails where there is no tunnel.`,
		Table: tableOf([]string{"POD CIDR", "TO NODE"}, func(e api.TunnelEnd) []string {
			return []string{e.PodCIDR.String(), e.Node.String()}
		}),
	}
}
