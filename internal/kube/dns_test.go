package kube

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// answer makes a server's reply to query.
func answer(t *testing.T, query []byte, code dnsmessage.RCode, addrs ...[4]byte) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		t.Fatal(err)
	}
	m.Response, m.RCode = true, code
	for _, a := range addrs {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: a},
		})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDNS(t *testing.T) {
	q, err := DNSQuery(APIServerName)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DNSAnswer(answer(t, q, dnsmessage.RCodeSuccess, [4]byte{10, 96, 0, 1}))
	if err != nil || len(got) != 1 || got[0] != netip.MustParseAddr("10.96.0.1") {
		t.Errorf("got %v, %v", got, err)
	}
	other := answer(t, q, dnsmessage.RCodeSuccess, [4]byte{10, 96, 0, 1})
	other[0]++
	for name, tt := range map[string]struct {
		reply []byte
		err   string
	}{
		"no such name":     {answer(t, q, dnsmessage.RCodeNameError), "NameError"},
		"no address":       {answer(t, q, dnsmessage.RCodeSuccess), "without an address"},
		"to another's":     {other, "no answer to our"},
		"the query itself": {q, "no answer to our"},
		"nothing":          {nil, "read dns answer"},
		"cut off":          {other[:15], "read dns answer"},
	} {
		if _, err := DNSAnswer(tt.reply); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error = %v, want %q", name, err, tt.err)
		}
	}
	if _, err := DNSQuery("not-qualified"); err == nil {
		t.Error("a name without its last dot was taken")
	}
}
