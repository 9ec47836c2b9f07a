package bpf

// The types that the maps share, by names of their own. Addresses are 16 bytes as netip.Addr.As16()
// gives them; the fields of packets and flows are in network byte order.
type (
	Aggregation = PodLabAggregation
	Endpoint    = PodEndpoint
	Event       = PodEvent
	Observed    = PodObserved
	Occasion    = PodLabOccasion
	Point       = PodLabPoint
	State       = PodLabState
	Step        = PodStep
	StepKind    = PodLabStep
	Table       = PodLabTable
	EventHeader = PodEventHeader
	Flow        = PodFlow
	FlowEntry   = PodFlowEntry
	KernelFlow  = PodKernelFlow
	Generations = PodGenerations
	IP          = PodIp
	MAC         = PodMac
	Metric      = PodMetric
	Metrics     = PodMetrics
	Reason      = PodLabReason
	Direction   = PodLabDirection

	Backend      = PodBackend
	BackendFlag  = PodLabBackendFlag
	FlowKind     = PodCtKind
	Timeout      = PodLabTimeout
	FrontendKind = PodLabFrontend
	IPCacheEntry = PodIpcacheEntry
	IPCacheKey   = PodIpcacheKey
	Mode         = PodLabMode
	Node         = PodNode
	NodeFlag     = PodLabNodeFlag
	Scope        = PodLabScope
	Service      = PodService
	ServiceKey   = PodServiceKey
	Source       = PodSource
	SourceKey    = PodSourceKey
	Translation  = PodTranslation
	Tuple        = PodTuple
)
