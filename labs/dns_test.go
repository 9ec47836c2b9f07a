package labs

import (
	"net/netip"
	"strings"
	"testing"

	"wirelab.dev/wirelab/verify/probe"
)

// TestDNSAnswer: a question that could not be asked says nothing about who was to answer.
func TestDNSAnswer(t *testing.T) {
	addresses := []netip.Addr{netip.MustParseAddr("10.96.0.1")}
	for name, tt := range map[string]struct {
		reply    probe.Reply
		why, err string
	}{
		"answered":           {probe.Reply{DNS: &probe.DNSResult{RCode: "NOERROR", Addresses: addresses}}, "", ""},
		"no such name":       {probe.Reply{Failure: "10.0.1.2:53 answers NXDOMAIN for x", DNS: &probe.DNSResult{RCode: "NXDOMAIN"}}, "NXDOMAIN", ""},
		"no answer":          {probe.Reply{Failure: "i/o timeout"}, "i/o timeout", ""},
		"no address":         {probe.Reply{DNS: &probe.DNSResult{RCode: "NOERROR"}}, "no address for kubernetes.default", ""},
		"could not be asked": {probe.Reply{Error: "operation not permitted"}, "", "not permitted"},
	} {
		why, err := dnsAnswer(tt.reply)
		if (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v; want %q, %q", name, why, err, tt.why, tt.err)
		}
	}
}
