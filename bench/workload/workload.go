// Package workload measures what a network path costs: requests and replies, connections, and bytes, between
// one client thread and one server thread.
//
// Both are locked to an operating system thread of their own, in a network namespace, a cgroup and on a CPU
// that the caller chooses, and make system calls directly: neither Go's poller nor its scheduler is in the
// time that is measured. A session is one client's visit to a server, and ends with the server's report.
package workload

import (
	"fmt"
	"time"
)

// Kind is one of the workloads.
type Kind string

const (
	// TCPRR sends one byte to and fro over one connection.
	TCPRR Kind = "tcp_rr"
	// UDPRR sends one byte to and fro in datagrams.
	UDPRR Kind = "udp_rr"
	// TCPCRR connects, sends one byte to and fro, and closes, the server first.
	TCPCRR Kind = "tcp_crr"
	// TCPStream sends as fast as one CPU can.
	TCPStream Kind = "tcp_stream"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{TCPRR, UDPRR, TCPCRR, TCPStream} }

// Port is where the server of a workload listens, unless somebody has a reason for another; 0 for one that is
// not known.
func Port(kind Kind) uint16 {
	for i, k := range Kinds() {
		if k == kind {
			return 7000 + uint16(i) //nolint:gosec // there are four
		}
	}
	return 0
}

// ParseKind finds a workload by its name.
func ParseKind(name string) (Kind, error) {
	for _, k := range Kinds() {
		if string(k) == name {
			return k, nil
		}
	}
	return "", fmt.Errorf("workload %q is not known: use one of %v", name, Kinds())
}

const (
	// congestion is the congestion control of every socket: what the kernel has as its own choice differs, and
	// with BBR, which paces, a byte costs twice as much.
	congestion = "reno"
	// patience is how long one end waits for the other. An answer takes microseconds.
	patience = 3 * time.Second
	// blockSize is how much one write or read of a stream takes: what netperf's TCP_STREAM sends unless told.
	// With larger ones most of the time goes into copying, which is the same on all paths.
	blockSize = 16 << 10
	// streamBuffer is both ends' SO_SNDBUF and SO_RCVBUF for streams, in bytes: the most that kernels allow
	// everybody unless told. With buffers that the kernel tunes, a connection at random is one where the
	// writer sends or one where the reader's acknowledgements do, which differ by a fifth of a byte's cost.
	streamBuffer = 212992
)

// Window is when a session is measured.
type Window struct {
	// WarmUp is how long the session runs unmeasured first.
	WarmUp time.Duration
	// Length is how long it is measured then.
	Length time.Duration
}

// DefaultWindow is for a machine that is not known.
func DefaultWindow() Window {
	return Window{WarmUp: 100 * time.Millisecond, Length: 300 * time.Millisecond}
}

// Result is what one session measured.
type Result struct {
	Kind Kind `json:"kind"`
	// Operations in the window; 0 for streams.
	Operations int `json:"operations,omitempty"`
	// P50, P90 and P99 are of the operations' times, each of which was kept; 0 for streams.
	P50 time.Duration `json:"p50_ns,omitempty"`
	P90 time.Duration `json:"p90_ns,omitempty"`
	P99 time.Duration `json:"p99_ns,omitempty"`
	// Bytes that the server received in its window, which took Elapsed; 0 unless it is a stream.
	Bytes   int64         `json:"bytes,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns"`
	// ClientCPU and ServerCPU are what the threads used for one operation, for streams for 1 KiB, in
	// nanoseconds. What the kernel does for a packet at once is in it, on whichever side it was sent.
	ClientCPU float64 `json:"client_cpu_ns"`
	ServerCPU float64 `json:"server_cpu_ns"`
}

// Cost is what gets worse when a path does: the median time of an operation, or the CPU time of 1 KiB, in
// nanoseconds.
func (r Result) Cost() float64 {
	if r.Kind == TCPStream {
		return r.ClientCPU + r.ServerCPU
	}
	return float64(r.P50)
}
