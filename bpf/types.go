package bpf

// The types that the maps share, by names of their own. Addresses are 16 bytes as netip.Addr.As16()
// gives them; the fields of packets and flows are in network byte order.
type (
	Endpoint  = PodEndpoint
	Event     = PodEvent
	Flow      = PodFlow
	IP        = PodIp
	MAC       = PodMac
	Metric    = PodMetric
	Reason    = PodLabReason
	Direction = PodLabDirection
)
