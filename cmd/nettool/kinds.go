package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/verify/probe"
)

func newHTTPCmd() *cobra.Command {
	spec := probe.HTTP{}
	var source string
	var each time.Duration
	var cmd *cobra.Command
	cmd = probeCmd("http URL", "GET a nettool server, once or at a rate", cobra.ExactArgs(1), 0, func(args []string) (_ probe.Request, err error) {
		spec.URL, spec.RequestTimeout = args[0], probe.Duration(each)
		if !strings.Contains(spec.URL, "://") {
			spec.URL = "http://" + spec.URL
		}
		if source != "" {
			if spec.Source, err = netip.ParseAddr(source); err != nil {
				return probe.Request{}, fmt.Errorf("read --source: %w", err)
			}
		}
		if !cmd.Flags().Changed("timeout") {
			// Long enough for every request to use up its own time.
			all := time.Duration(spec.Count) * each
			if spec.Rate > 0 {
				// Twice what it takes: requests start late on a busy machine, never in a burst.
				all = time.Duration(2*float64(spec.Count)/spec.Rate*float64(time.Second)) + each
			}
			if err := cmd.Flags().Set("timeout", all.String()); err != nil {
				return probe.Request{}, err
			}
		}
		return probe.Request{HTTP: &spec}, nil
	})
	cmd.Flags().IntVar(&spec.Count, "count", 1, "how many requests")
	cmd.Flags().Float64Var(&spec.Rate, "rate", 0, "requests to start in a second at most; 0: one after another")
	cmd.Flags().BoolVar(&spec.KeepAlive, "keepalive", false, "reuse connections")
	cmd.Flags().StringVar(&source, "source", "", "local address to send from")
	cmd.Flags().StringVar(&spec.Interface, "interface", "", "device to send from")
	cmd.Flags().DurationVar(&each, "request-timeout", probe.DefaultTimeout, "how long one request may take")
	return cmd
}

func newTCPCmd() *cobra.Command {
	spec := probe.TCP{}
	cmd := probeCmd("tcp ADDRESS:PORT", "Send bytes to a nettool server and back, compare checksums", cobra.ExactArgs(1), 30*time.Second, func(args []string) (_ probe.Request, err error) {
		spec.Address, err = netip.ParseAddrPort(args[0])
		return probe.Request{TCP: &spec}, err
	})
	cmd.Flags().Int64Var(&spec.Bytes, "bytes", 1<<20, "how many bytes each way")
	return cmd
}

func newUDPCmd() *cobra.Command {
	spec := probe.UDP{}
	cmd := probeCmd("udp ADDRESS:PORT", "Send datagrams to a nettool server", cobra.ExactArgs(1), probe.DefaultTimeout, func(args []string) (_ probe.Request, err error) {
		spec.Address, err = netip.ParseAddrPort(args[0])
		return probe.Request{UDP: &spec}, err
	})
	cmd.Flags().IntVar(&spec.Size, "size", probe.MinUDP, "payload in bytes")
	cmd.Flags().BoolVar(&spec.DF, "df", false, "forbid fragments")
	cmd.Flags().IntVar(&spec.Count, "count", 1, "how many datagrams")
	return cmd
}

func newICMPCmd() *cobra.Command {
	spec := probe.ICMP{}
	cmd := probeCmd("icmp ADDRESS", "Send echo requests", cobra.ExactArgs(1), probe.DefaultTimeout, func(args []string) (_ probe.Request, err error) {
		spec.Address, err = netip.ParseAddr(args[0])
		return probe.Request{ICMP: &spec}, err
	})
	cmd.Flags().IntVar(&spec.Size, "size", 56, "payload in bytes")
	cmd.Flags().BoolVar(&spec.DF, "df", false, "forbid fragments")
	cmd.Flags().IntVar(&spec.TTL, "ttl", 0, "time to live to send with; 0: the kernel's")
	cmd.Flags().IntVar(&spec.Count, "count", 1, "how many requests")
	return cmd
}

func newARPCmd() *cobra.Command {
	spec := probe.ARP{}
	cmd := probeCmd("arp ADDRESS", "Ask who has an address", cobra.ExactArgs(1), probe.DefaultTimeout, func(args []string) (_ probe.Request, err error) {
		spec.Address, err = netip.ParseAddr(args[0])
		return probe.Request{ARP: &spec}, err
	})
	cmd.Flags().StringVar(&spec.Interface, "interface", "eth0", "device to ask on")
	return cmd
}

func newDNSCmd() *cobra.Command {
	spec := probe.DNS{}
	cmd := probeCmd("dns SERVER:PORT NAME", "Ask a server for the A records of a name", cobra.ExactArgs(2), probe.DefaultTimeout, func(args []string) (_ probe.Request, err error) {
		spec.Name = args[1]
		spec.Server, err = netip.ParseAddrPort(args[0])
		return probe.Request{DNS: &spec}, err
	})
	cmd.Flags().BoolVar(&spec.TCP, "tcp", false, "ask over TCP")
	return cmd
}

func newSendCmd() *cobra.Command {
	spec := probe.Send{}
	var from, to string
	cmd := probeCmd("send", "Put packets on the wire with any source address", cobra.NoArgs, probe.DefaultTimeout, func([]string) (probe.Request, error) {
		source, err := endpoint(from)
		destination, toErr := endpoint(to)
		spec.Source, spec.SourcePort = source.Addr(), source.Port()
		spec.Destination, spec.DestinationPort = destination.Addr(), destination.Port()
		return probe.Request{Send: &spec}, errors.Join(err, toErr)
	})
	cmd.Flags().StringVar(&spec.Protocol, "protocol", "udp", "udp or icmp")
	cmd.Flags().StringVar(&from, "from", "", "source ADDRESS[:PORT]; the port is the identifier for icmp")
	cmd.Flags().StringVar(&to, "to", "", "destination ADDRESS[:PORT]")
	cmd.Flags().StringVar(&spec.Payload, "payload", "nettool", "what the packets carry")
	cmd.Flags().IntVar(&spec.Count, "count", 1, "how many packets")
	return cmd
}

// endpoint reads ADDRESS or ADDRESS:PORT.
func endpoint(s string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read %q as ADDRESS or ADDRESS:PORT: %w", s, err)
	}
	return netip.AddrPortFrom(addr, 0), nil
}

func newCaptureCmd() *cobra.Command {
	spec := probe.Capture{}
	var from, to, direction string
	cmd := probeCmd("capture", "Wait for packets on a device and print them decoded", cobra.NoArgs, 10*time.Second, func([]string) (probe.Request, error) {
		spec.Filter.Direction = probe.Direction(direction)
		var errs error
		for _, end := range []struct {
			text string
			addr *netip.Addr
			port *uint16
		}{{from, &spec.Filter.Source, &spec.Filter.SourcePort}, {to, &spec.Filter.Destination, &spec.Filter.DestinationPort}} {
			if end.text == "" {
				continue
			}
			at, err := endpoint(end.text)
			*end.addr, *end.port = at.Addr(), at.Port()
			errs = errors.Join(errs, err)
		}
		if direction != "" && direction != string(probe.In) && direction != string(probe.Out) {
			errs = errors.Join(errs, fmt.Errorf("read --direction %q: it is in or out", direction))
		}
		return probe.Request{Capture: &spec}, errs
	})
	cmd.Flags().StringVar(&spec.Interface, "interface", "eth0", "device to watch, or any")
	cmd.Flags().IntVar(&spec.Count, "count", 1, "end after so many packets; 0: at the timeout")
	cmd.Flags().StringVar(&direction, "direction", "", "in or out; empty: both")
	cmd.Flags().StringVar(&spec.Filter.Protocol, "protocol", "", "arp, icmp, tcp or udp; empty: any")
	cmd.Flags().StringVar(&from, "from", "", "source ADDRESS[:PORT]")
	cmd.Flags().StringVar(&to, "to", "", "destination ADDRESS[:PORT]")
	cmd.Flags().StringVar(&spec.Filter.Contains, "contains", "", "text the payload must hold")
	return cmd
}
