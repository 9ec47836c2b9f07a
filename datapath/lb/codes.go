package lb

import (
	"fmt"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// frontendKinds in the order in which they win where two Services claim the same address and port.
var frontendKinds = []struct {
	kind FrontendKind
	code bpf.FrontendKind
}{
	{ClusterIP, bpf.PodLabFrontendLAB_CLUSTER_IP},
	{ExternalIP, bpf.PodLabFrontendLAB_EXTERNAL_IP},
	{LoadBalancer, bpf.PodLabFrontendLAB_LOAD_BALANCER},
	{NodePort, bpf.PodLabFrontendLAB_NODE_PORT},
	{HostPortFrontend, bpf.PodLabFrontendLAB_HOST_PORT},
}

func kindRank(k FrontendKind) int {
	for i, f := range frontendKinds {
		if f.kind == k {
			return i
		}
	}
	return len(frontendKinds)
}

// KindOf is the kind of frontend that maps have as a number; empty when there is none.
func KindOf(code bpf.FrontendKind) FrontendKind {
	for _, k := range frontendKinds {
		if k.code == code {
			return k.kind
		}
	}
	return ""
}

// ProtocolName is the name of an IP protocol that flows are of, or else its number.
func ProtocolName(number uint8) string {
	if number == unix.IPPROTO_ICMP {
		return "icmp"
	}
	for name, n := range protocols {
		if n == number {
			return name
		}
	}
	return fmt.Sprint(number)
}
