package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
)

func newMonitorCmd() *cobra.Command {
	q := &question{}
	var drops bool
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Print what the programs report about packets, as it happens",
		Long: "Print what the programs report about packets, as it happens: drops always, every packet when\n" +
			"bpf.monitorAggregation is none. Programs write nothing while nobody reads; what found no room is\n" +
			"said where it is missing.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			enc := json.NewEncoder(out)
			for e, err := range q.client().Monitor(cmd.Context()) {
				if err != nil {
					return err
				}
				if drops && e.Type == api.EventTrace {
					continue
				}
				if q.output == "json" {
					err = enc.Encode(e)
				} else {
					_, err = fmt.Fprintln(out, eventLine(e))
				}
				if err != nil {
					return fmt.Errorf("print an event: %w", err)
				}
			}
			return nil
		},
	}
	q.flags(cmd)
	cmd.Flags().BoolVar(&drops, "drops", false, "only packets that were dropped")
	return cmd
}

// eventLine is one event for a person to read.
func eventLine(e api.Event) string {
	if e.Type == api.EventLost {
		return fmt.Sprintf("lost %d events (CPU %d)", e.Missed, e.CPU)
	}
	verdict := e.Reason
	if e.Type == api.EventDrop {
		verdict = "DROP " + e.Reason
	}
	line := fmt.Sprintf("%s %-8s %-15s %s > %s %s", e.Time.Format("15:04:05.000000"), e.Direction, e.Iface,
		e.SrcMAC, e.DstMAC, protocol(e))
	if e.Src.IsValid() {
		line += fmt.Sprintf(" %s > %s", host(e.Src), host(e.Dst))
	}
	if e.TTL != 0 {
		line += " ttl " + strconv.Itoa(int(e.TTL))
	}
	return fmt.Sprintf("%s, %d bytes: %s", line, e.Length, verdict)
}

// host leaves a port of 0 out: the packet had none.
func host(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

func protocol(e api.Event) string {
	switch e.EtherType {
	case unix.ETH_P_ARP:
		return "ARP"
	case unix.ETH_P_IPV6:
		return "IPv6"
	case unix.ETH_P_IP:
	default:
		return fmt.Sprintf("ethertype 0x%04x", e.EtherType)
	}
	switch e.Proto {
	case unix.IPPROTO_TCP:
		return "TCP"
	case unix.IPPROTO_UDP:
		return "UDP"
	case unix.IPPROTO_ICMP:
		return "ICMP"
	}
	return fmt.Sprintf("protocol %d", e.Proto)
}
