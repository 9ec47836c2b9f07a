package main

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// filterStart is how a filter in tcpdump's language begins, unless it is an address. Names of pods and nodes do not: where
// one is the same as such a word, namespace/name or the node's full name says it.
var filterStart = regexp.MustCompile(`^(!|\(|(not|src|dst|host|net|port|portrange|gateway|proto|protochain|ether|link|ip|ip6|arp|rarp|icmp|icmp6|` +
	`igmp|tcp|udp|sctp|ah|esp|vlan|mpls|geneve|vxlan|broadcast|multicast|less|greater|len|inbound|outbound|ifindex)($|[\s\[]))`)

func beginsFilter(arg string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(arg), " ")
	_, notAddr := netip.ParseAddr(first)
	_, notNet := netip.ParsePrefix(first)
	return notAddr == nil || notNet == nil || filterStart.MatchString(strings.TrimSpace(arg))
}

// captureArgs divides arguments into where to capture and a filter, which may be several of them, as tcpdump has it.
func captureArgs(args []string) (at []string, filter string, err error) {
	for len(at) < len(args) && !beginsFilter(args[len(at)]) {
		at = append(at, args[len(at)])
	}
	if len(at) == 0 {
		return nil, "", errors.New("say where to capture before the filter: a pod or a node, and perhaps its device as in worker:eth0")
	}
	return at, strings.Join(args[len(at):], " "), nil
}

// completeCapture completes with nodes and pods until a filter begins.
func completeCapture(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	for _, a := range args {
		if beginsFilter(a) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
	return places(cmd, args, true)
}
