package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
)

// Check is an error that names what is wrong with r: it asks for not exactly
// one probe, or names no target. A probe without one would reach whatever is
// nearest, which is its sender, and what comes of it says nothing about the
// network.
func (r Request) Check() error {
	kind, err := r.Kind()
	if err != nil {
		return err
	}
	switch kind {
	case "http":
		return checkURL(r.HTTP.URL)
	case "tcp":
		return checkPort("tcp.address", r.TCP.Address)
	case "udp":
		return checkPort("udp.address", r.UDP.Address)
	case "knock":
		if p := r.Knock.Protocol; p != "tcp" && p != "udp" {
			return fmt.Errorf("knock.protocol is %q, not tcp or udp", p)
		}
		return checkPort("knock.address", r.Knock.Address)
	case "icmp":
		return checkAddr("icmp.address", r.ICMP.Address)
	case "arp":
		return checkAddr("arp.address", r.ARP.Address)
	case "dns":
		if r.DNS.Name == "" {
			return errors.New("dns.name is empty: there is nothing to ask for")
		}
		return checkPort("dns.server", r.DNS.Server)
	case "send":
		if err := checkAddr("send.source", r.Send.Source); err != nil {
			return err
		}
		return checkAddr("send.destination", r.Send.Destination)
	case "serve":
		if !r.Serve.Address.Addr().IsValid() {
			return fmt.Errorf("serve.address is %q: there is nowhere to serve", r.Serve.Address)
		}
	}
	return nil
}

func checkAddr(field string, addr netip.Addr) error {
	if !addr.IsValid() || addr.IsUnspecified() {
		return fmt.Errorf("%s is %q, which is nobody's address", field, addr)
	}
	return nil
}

func checkPort(field string, at netip.AddrPort) error {
	if !at.Addr().IsValid() || at.Addr().IsUnspecified() || at.Port() == 0 {
		return fmt.Errorf("%s is %q, which is nobody's address and port", field, at)
	}
	return nil
}

func checkURL(text string) error {
	at, err := url.Parse(text)
	if err != nil || at.Hostname() == "" || at.Scheme != "http" {
		return fmt.Errorf("http.url is %q, which names no host to ask by http", text)
	}
	if addr, err := netip.ParseAddr(at.Hostname()); err == nil {
		return checkAddr("http.url", addr)
	}
	return nil
}
