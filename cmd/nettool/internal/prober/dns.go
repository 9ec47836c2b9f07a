package prober

import (
	"context"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"wirelab.dev/wirelab/verify/probe"
)

// askDNS asks once, without a search list and without a second server.
func askDNS(ctx context.Context, spec probe.DNS) (*probe.DNSResult, error) {
	client := &dns.Client{Net: "udp"}
	if spec.TCP {
		client.Net = "tcp"
	}
	message := new(dns.Msg).SetQuestion(dns.Fqdn(spec.Name), dns.TypeA)
	answer, _, err := client.ExchangeContext(ctx, message, spec.Server.String())
	if err != nil {
		return nil, failf("ask %s over %s for %s: %w", spec.Server, client.Net, spec.Name, err)
	}
	result := &probe.DNSResult{RCode: dns.RcodeToString[answer.Rcode]}
	for _, record := range answer.Answer {
		if a, ok := record.(*dns.A); ok {
			if addr, ok := netip.AddrFromSlice(a.A); ok {
				result.Addresses = append(result.Addresses, addr.Unmap())
			}
		}
	}
	slices.SortFunc(result.Addresses, netip.Addr.Compare)
	if answer.Rcode != dns.RcodeSuccess {
		return result, failf("%s answers %s for %s", spec.Server, result.RCode, spec.Name)
	}
	return result, nil
}
