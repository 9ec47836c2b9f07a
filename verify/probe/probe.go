// Package probe is what a check and the nettool binary say to each other: a
// check writes a [Request] as one line of JSON, nettool sends what it asks for
// from where it runs and answers with one or two lines, each a [Reply].
//
// The package holds the types, and what makes a request one that can be sent.
// Sending is cmd/nettool's work.
package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// DefaultTimeout bounds a probe whose request names no timeout.
const DefaultTimeout = 3 * time.Second

// Duration is a time.Duration that reads and writes as "1.5s".
type Duration time.Duration

// MarshalText writes d as time.Duration prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("parse duration: %w", err)
	}
	*d = Duration(parsed)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// Request asks for one probe: exactly one of the pointers is set, or Cancel.
type Request struct {
	// ID comes back in every reply; unique among the requests under way.
	ID string `json:"id,omitempty"`
	// Timeout bounds the whole probe. 0 means DefaultTimeout.
	Timeout Duration `json:"timeout,omitempty"`

	HTTP    *HTTP    `json:"http,omitempty"`
	TCP     *TCP     `json:"tcp,omitempty"`
	UDP     *UDP     `json:"udp,omitempty"`
	ICMP    *ICMP    `json:"icmp,omitempty"`
	ARP     *ARP     `json:"arp,omitempty"`
	DNS     *DNS     `json:"dns,omitempty"`
	Send    *Send    `json:"send,omitempty"`
	Capture *Capture `json:"capture,omitempty"`
	Serve   *Serve   `json:"serve,omitempty"`
	Exec    *Exec    `json:"exec,omitempty"`
	BPFMap  *BPFMap  `json:"bpfMap,omitempty"`
	Knock   *Knock   `json:"knock,omitempty"`
	// Cancel is the ID of a capture or serve to end now; it still answers.
	Cancel string `json:"cancel,omitempty"`
}

// Kind names the one thing r asks for, as its JSON key spells it. It returns
// an error when r asks for nothing or for several things.
func (r Request) Kind() (string, error) {
	set := map[string]bool{
		"http": r.HTTP != nil, "tcp": r.TCP != nil, "udp": r.UDP != nil, "icmp": r.ICMP != nil,
		"arp": r.ARP != nil, "dns": r.DNS != nil, "send": r.Send != nil, "capture": r.Capture != nil,
		"serve": r.Serve != nil, "exec": r.Exec != nil, "bpfMap": r.BPFMap != nil, "knock": r.Knock != nil, "cancel": r.Cancel != "",
	}
	kind := ""
	for name, is := range set {
		if !is {
			continue
		}
		if kind != "" {
			return "", errors.New("a request asks for one probe, this one asks for several")
		}
		kind = name
	}
	if kind == "" {
		return "", errors.New("the request asks for no probe: set one of http, tcp, udp, icmp, arp, dns, send, capture, serve, exec, bpfMap, knock, cancel")
	}
	return kind, nil
}

// Reply is the answer to a request. A capture and a serve answer twice: once
// with Ready when packets are caught and connections taken from then on, and
// once when they are over.
type Reply struct {
	ID    string `json:"id,omitempty"`
	Ready bool   `json:"ready,omitempty"`
	// Error says why the probe could not be sent at all: a bad request, a
	// missing permission, no such interface. It proves nothing about a network.
	Error string `json:"error,omitempty"`
	// Failure says what the network did other than answer as it should:
	// nothing came in time, the port is closed, bytes were changed on the way.
	Failure string   `json:"failure,omitempty"`
	Elapsed Duration `json:"elapsed,omitempty"`

	HTTP    *HTTPResult    `json:"http,omitempty"`
	TCP     *TCPResult     `json:"tcp,omitempty"`
	UDP     *UDPResult     `json:"udp,omitempty"`
	ICMP    *ICMPResult    `json:"icmp,omitempty"`
	ARP     *ARPResult     `json:"arp,omitempty"`
	DNS     *DNSResult     `json:"dns,omitempty"`
	Send    *SendResult    `json:"send,omitempty"`
	Capture *CaptureResult `json:"capture,omitempty"`
	Serve   *ServeResult   `json:"serve,omitempty"`
	Exec    *ExecResult    `json:"exec,omitempty"`
	BPFMap  *BPFMapResult  `json:"bpfMap,omitempty"`
	Knock   *KnockResult   `json:"knock,omitempty"`
}

// Identity is what a nettool server says of itself and of who asked.
type Identity struct {
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	Node      string `json:"node"`
	PodIP     string `json:"podIP"`
	// Client is the peer's address and port as the server's socket saw it.
	Client netip.AddrPort `json:"client"`
	// Protocol is "http" or "udp".
	Protocol string `json:"protocol"`
	// Host is the HTTP Host header; empty for UDP.
	Host string    `json:"host,omitempty"`
	Time time.Time `json:"time"`
	// Received and SHA256 (hex) describe the request's body or datagram.
	Received int    `json:"received,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
}
