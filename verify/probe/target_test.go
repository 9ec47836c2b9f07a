package probe

import (
	"net/netip"
	"strings"
	"testing"
)

// TestNoProbeWithoutATarget: an address that is not there, or that stands for any, is refused by the name of its field.
func TestNoProbeWithoutATarget(t *testing.T) {
	here, nowhere, anywhere := netip.MustParseAddr("192.0.2.1"), netip.Addr{}, netip.IPv4Unspecified()
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 80) }
	for _, tt := range []struct {
		field   string
		request func(netip.Addr) Request
	}{
		{"http.url", func(a netip.Addr) Request {
			return Request{HTTP: &HTTP{URL: "http://" + at(a).String() + "/"}}
		}},
		{"tcp.address", func(a netip.Addr) Request { return Request{TCP: &TCP{Address: at(a)}} }},
		{"udp.address", func(a netip.Addr) Request { return Request{UDP: &UDP{Address: at(a)}} }},
		{"icmp.address", func(a netip.Addr) Request { return Request{ICMP: &ICMP{Address: a}} }},
		{"arp.address", func(a netip.Addr) Request { return Request{ARP: &ARP{Address: a}} }},
		{"dns.server", func(a netip.Addr) Request { return Request{DNS: &DNS{Server: at(a), Name: "x"}} }},
		{"send.source", func(a netip.Addr) Request {
			return Request{Send: &Send{Source: a, Destination: here}}
		}},
		{"send.destination", func(a netip.Addr) Request {
			return Request{Send: &Send{Source: here, Destination: a}}
		}},
	} {
		if err := tt.request(here).Check(); err != nil {
			t.Errorf("%s: %v", tt.field, err)
		}
		for _, a := range []netip.Addr{nowhere, anywhere} {
			if err := tt.request(a).Check(); err == nil || !strings.Contains(err.Error(), tt.field+" is ") {
				t.Errorf("%s %q: %v", tt.field, a, err)
			}
		}
	}
	for field, request := range map[string]Request{
		"tcp.address": {TCP: &TCP{Address: netip.AddrPortFrom(here, 0)}}, "dns.name": {DNS: &DNS{Server: at(here)}},
		"serve.address": {Serve: &Serve{}}, "http.url": {HTTP: &HTTP{URL: "http://:80/"}}, "asks for no probe": {},
	} {
		if err := request.Check(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := (Request{HTTP: &HTTP{URL: "http://demo.default.svc/"}}).Check(); err != nil {
		t.Errorf("a name: %v", err)
	}
}
