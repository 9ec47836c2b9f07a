package probe

import (
	"errors"
	"net/netip"
)

// HTTP gets a URL of a nettool server, once or many times.
type HTTP struct {
	URL string `json:"url"`
	// Source is the local address to send from; the zero value lets the
	// kernel choose. Interface binds to a device by name.
	Source    netip.Addr `json:"source,omitzero"`
	Interface string     `json:"interface,omitempty"`
	// Count is how many requests to make, 0 means 1. Rate is how many to
	// start in a second at most; 0 sends each when the one before it has ended.
	Count int     `json:"count,omitempty"`
	Rate  float64 `json:"rate,omitempty"`
	// KeepAlive reuses connections; without it each request dials anew.
	KeepAlive bool `json:"keepAlive,omitempty"`
	// Connections is how many connections the requests take turns on, each to last as long as they do; 0: as KeepAlive says.
	Connections int `json:"connections,omitempty"`
	// RequestTimeout bounds each request. 0 means DefaultTimeout.
	RequestTimeout Duration `json:"requestTimeout,omitempty"`
}

// HTTPResult tells how the requests went.
type HTTPResult struct {
	Sent   int `json:"sent"`
	OK     int `json:"ok"`
	Status int `json:"status,omitempty"` // of the last answer
	// Lost is how many connections ended, or were given up for an answer that did not come, where the requests take turns on some.
	Lost int `json:"lost,omitempty"`
	// Identity is the last answer's; AnsweredBy counts answers by pod name.
	Identity   *Identity      `json:"identity,omitempty"`
	AnsweredBy map[string]int `json:"answeredBy,omitempty"`
	// Failures lists the first MaxFailures; Sent-OK is how many there were.
	Failures []HTTPFailure `json:"failures,omitempty"`
	P50      Duration      `json:"p50,omitempty"`
	P99      Duration      `json:"p99,omitempty"`
	Max      Duration      `json:"max,omitempty"`
}

// MaxFailures bounds HTTPResult.Failures, so that a dead server does not fill
// the pipe.
const MaxFailures = 20

// HTTPFailure is one request without the answer it should have had. After is
// counted from the first request.
type HTTPFailure struct {
	After Duration `json:"after"`
	Error string   `json:"error"`
}

// TCP sends Bytes to a nettool server over one connection, then reads as many
// back, and compares checksums of both directions.
type TCP struct {
	Address netip.AddrPort `json:"address"`
	Bytes   int64          `json:"bytes"`
}

// TCPResult counts what arrived in each direction.
type TCPResult struct {
	Identity *Identity      `json:"identity,omitempty"`
	Local    netip.AddrPort `json:"local"`
	Up       int64          `json:"up"`
	Down     int64          `json:"down"`
}

// UDP sends datagrams to a nettool server, which answers each with its
// identity, padded to the size of the request.
type UDP struct {
	Address netip.AddrPort `json:"address"`
	// Source is the local address to send from; the zero value lets the
	// kernel choose.
	Source netip.Addr `json:"source,omitzero"`
	// Size is the payload in bytes, at least MinUDP. 0 means MinUDP.
	Size int `json:"size,omitempty"`
	// DF forbids fragments; a payload the link or the path cannot carry whole fails.
	DF    bool `json:"df,omitempty"`
	Count int  `json:"count,omitempty"` // 0 means 1
}

// MinUDP is the least payload that has room for the identity in the answer.
const MinUDP = 1000

// UDPResult holds the last answer.
type UDPResult struct {
	Sent     int            `json:"sent"`
	Received int            `json:"received"`
	Local    netip.AddrPort `json:"local"`
	Identity *Identity      `json:"identity,omitempty"`
	// Size is the payload of the last answer in bytes.
	Size int `json:"size,omitempty"`
}

// ICMP sends echo requests.
type ICMP struct {
	Address netip.Addr `json:"address"`
	Size    int        `json:"size,omitempty"` // payload in bytes; 0 means 56
	DF      bool       `json:"df,omitempty"`
	TTL     int        `json:"ttl,omitempty"`   // 0 means the kernel's 64
	Count   int        `json:"count,omitempty"` // 0 means 1
	// Marker heads the payload, for a capture to find; it must fit. Without
	// one the payload's head is random.
	Marker string `json:"marker,omitempty"`
}

// ICMPResult tells who answered.
type ICMPResult struct {
	Sent     int        `json:"sent"`
	Received int        `json:"received"`
	From     netip.Addr `json:"from,omitzero"`
	TTL      int        `json:"ttl,omitempty"` // of the last reply, as received
	// MTU is what has been named to a request that must not be fragmented and is larger.
	MTU int `json:"mtu,omitempty"`
}

// Knock asks whether anybody is at a port, by one TCP connection, which is closed as soon as it is open, or one datagram.
type Knock struct {
	Protocol string         `json:"protocol"` // "tcp" or "udp"
	Address  netip.AddrPort `json:"address"`
	// From is the port to send from; 0 lets the kernel choose.
	From   uint16 `json:"from,omitempty"`
	Marker string `json:"marker,omitempty"` // the payload of a datagram
}

// ErrPortTaken is that nothing was sent, as the port to send from is somebody's. Replies have it in front of the port.
var ErrPortTaken = errors.New("the port to send from is taken")

// KnockResult is who was asked, as the socket says it once it is connected.
type KnockResult struct {
	Local netip.AddrPort `json:"local,omitzero"`
}

// ARP asks who has an address.
type ARP struct {
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
}

// ARPResult is the answer: the MAC it gives and the MAC it was framed with.
type ARPResult struct {
	MAC      string `json:"mac"`
	FrameMAC string `json:"frameMAC"`
}

// DNS asks a server for the A records of a name.
type DNS struct {
	Server netip.AddrPort `json:"server"`
	Name   string         `json:"name"` // a missing last dot is added
	TCP    bool           `json:"tcp,omitempty"`
}

// DNSResult holds the answer. Addresses are sorted.
type DNSResult struct {
	RCode     string       `json:"rcode"`
	Addresses []netip.Addr `json:"addresses"`
}

// Send puts packets on the wire with any source address, answered or not.
type Send struct {
	Protocol        string     `json:"protocol"` // "udp" or "icmp"
	Source          netip.Addr `json:"source"`
	Destination     netip.Addr `json:"destination"`
	SourcePort      uint16     `json:"sourcePort,omitempty"`
	DestinationPort uint16     `json:"destinationPort,omitempty"`
	Payload         string     `json:"payload"`
	Count           int        `json:"count,omitempty"` // 0 means 1
}

// SendResult counts the packets the kernel took.
type SendResult struct {
	Sent int `json:"sent"`
}

// Serve runs a nettool server until it is canceled or times out. Port 0 takes
// a free one.
type Serve struct {
	Address netip.AddrPort `json:"address"`
}

// ServeResult holds the address TCP and UDP are served at.
type ServeResult struct {
	Address netip.AddrPort `json:"address"`
}

// Exec runs a command where nettool runs. A command that ends with a status
// other than 0 is a result, not a failure.
type Exec struct {
	Argv []string `json:"argv"`
}

// ExecResult is what the command printed and how it ended.
type ExecResult struct {
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr,omitempty"`
	Code   int    `json:"code"`
}
