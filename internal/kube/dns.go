package kube

import (
	"fmt"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// APIServerName is a name that every cluster's DNS must know.
const APIServerName = "kubernetes.default.svc.cluster.local."

// dnsID marks our query; an answer to anything else has another.
const dnsID = 0x1ab5

// DNSQuery is a DNS request (without the length that goes before it over TCP) for the IPv4 addresses of a fully
// qualified name.
func DNSQuery(name string) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, fmt.Errorf("dns name %q: %w", name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: dnsID, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack dns query for %q: %w", name, err)
	}
	return b, nil
}

// DNSAnswer reads the answer to a [DNSQuery]: the addresses, at least one.
func DNSAnswer(b []byte) ([]netip.Addr, error) {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		return nil, fmt.Errorf("read dns answer of %d bytes: %w", len(b), err)
	}
	if m.ID != dnsID || !m.Response {
		return nil, fmt.Errorf("this is no answer to our dns query (id %#x)", m.ID)
	}
	if m.RCode != dnsmessage.RCodeSuccess {
		return nil, fmt.Errorf("dns answered %s", m.RCode)
	}
	var out []netip.Addr
	for _, a := range m.Answers {
		if r, ok := a.Body.(*dnsmessage.AResource); ok {
			out = append(out, netip.AddrFrom4(r.A))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("dns answered without an address")
	}
	return out, nil
}
