// Package api is what wirelab's parts say to each other: the state an agent
// reports about its node, the events it streams, and the wire between the CNI
// plugin and the agent. It has types and one small transport over unix
// sockets; the HTTP client is in package client, so that the CNI plugin stays
// small.
package api

// Where an agent is reached on its node. Both sockets have mode 0600 in a
// directory of mode 0700.
const (
	RunDir      = "/run/wirelab"
	AgentSocket = RunDir + "/agent.sock" // HTTP, see the paths below
	CNISocket   = RunDir + "/cni.sock"   // one CNIRequest, one CNIReply a connection
)

// Paths on AgentSocket, GET but for two. StatusPath answers a Status, EndpointsPath a
// []LabeledEndpoint sorted by address, MonitorPath an endless stream of MonitorLine, one
// JSON object a line. FlowRecordsPath takes a [FlowFilter] as query and answers
// FlowLines, one a line, endless if they are followed. IPCachePath answers a
// []IPCacheEntry sorted by prefix, TunnelsPath a []TunnelEnd sorted by podCIDR,
// and IdentitiesPath a []Identity sorted by number. The others read maps back
// that only modes without kube-proxy have: a []Service sorted by name, a
// []Frontend sorted by address, and a []Flow as flows are opened and as their
// answers come. PausePath and ResumePath are POST and take names of reconcilers
// as "name"; PausePath for how long as "for". Both answer a Status.
const (
	StatusPath       = "/v1/status"
	EndpointsPath    = "/v1/endpoints"
	MonitorPath      = "/v1/monitor"
	ServicesPath     = "/v1/services"
	FrontendsPath    = "/v1/bpf/lb"
	FlowsPath        = "/v1/bpf/ct"
	TranslationsPath = "/v1/bpf/nat"
	PausePath        = "/v1/reconcilers/pause"
	ResumePath       = "/v1/reconcilers/resume"
	IdentitiesPath   = "/v1/identities"
	IPCachePath      = "/v1/bpf/ipcache"
	TunnelsPath      = "/v1/bpf/tunnel"
	FlowRecordsPath  = "/v1/flows"
	FeaturesPath     = "/v1/features" // a []Feature
)

// Names in the certificates by which agents and wirelab-relay know each other. An agent is asked over TLS by nobody else, and
// answers at StatusPath, with what is about flows, and at FlowRecordsPath only.
const (
	AgentCertName = "agent.wirelab.internal"
	RelayCertName = "relay.wirelab.internal"
)

// Secrets that these certificates are in. The chart makes both at once.
const (
	AgentCertSecret = "wirelab-relay-agent"
	RelayCertSecret = "wirelab-relay"
)

// MapLayout is the version of what the keys and values of the pinned BPF maps are and mean.
const MapLayout = "v3"

// HTTPError is the body of every answer on AgentSocket that is not 200.
type HTTPError struct {
	Message string `json:"message"`
}
