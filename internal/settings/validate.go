package settings

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a network's settings.
type Fault struct {
	// Keys are the one or two that it is about, by their full paths: of two, the first is at fault unless the second was
	// set against it. An item of a list is devices[1].
	Keys []string
	// Message names the keys where there are two.
	Message string
}

// Error is one line: the key and what is wrong with it.
func (f *Fault) Error() string {
	if len(f.Keys) > 1 {
		return f.Message
	}
	return f.Keys[0] + ": " + f.Message
}

// itemFault is what is wrong with item i of the list that is at a path.
func itemFault(list string, i int, format string, args ...any) *Fault {
	return &Fault{Keys: []string{fmt.Sprintf("%s[%d]", list, i)}, Message: fmt.Sprintf(format, args...)}
}

// Faults takes apart the error of [Network.Validate], in the order found.
func Faults(err error) (all []*Fault) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, part := range joined.Unwrap() {
		if f, ok := errors.AsType[*Fault](part); ok {
			all = append(all, f)
		}
	}
	return all
}

// Need is a rule: where Key is set, Needs must be set too, or, where Not is not empty, to something else than Not. Unset
// are false, the words for it and what is empty, lists too.
type Need struct {
	Key   string `json:"key"`
	Needs string `json:"needs"`
	Not   string `json:"not,omitempty"`
	// Message names both keys and says what to do.
	Message string `json:"message"`

	// blames is the one of the two keys that is at fault unless the other was set against it.
	blames string
}

// Needs are the rules between settings, for a network that is at the path at in its document, or is the document where at
// is empty. The chart's templates hold its values against them too.
func Needs(at string) []Need {
	rules := []Need{
		{
			Key: "autoDirectNodeRoutes", Needs: "routingMode", Not: RoutingTunnel, blames: "autoDirectNodeRoutes",
			Message: "{autoDirectNodeRoutes} needs {routingMode} native: in a tunnel no route leads by way of another node; set {autoDirectNodeRoutes} to false, or {routingMode} to native",
		},
		{
			Key: "enableIPv4Masquerade", Needs: "ipv4NativeRoutingCIDR", blames: "ipv4NativeRoutingCIDR",
			Message: "{enableIPv4Masquerade} needs {ipv4NativeRoutingCIDR}, to know where pods keep their own address: set it to a CIDR around the pod subnet, such as 10.0.0.0/8, or {enableIPv4Masquerade} to false",
		},
		{
			Key: "enableIPv4Masquerade", Needs: "ipv4NativeRoutingCIDR", Not: "0.0.0.0/0", blames: "ipv4NativeRoutingCIDR",
			Message: "{ipv4NativeRoutingCIDR} 0.0.0.0/0 covers every address, so nothing would be masqueraded; narrow it, or set {enableIPv4Masquerade} to false",
		},
		{
			Key: "bpf.masquerade", Needs: "kubeProxyReplacement", blames: "bpf.masquerade",
			Message: "{bpf.masquerade} needs {kubeProxyReplacement}: where kube-proxy translates Services, only iptables knows which packets it did; set {kubeProxyReplacement} to true, or {bpf.masquerade} to false",
		},
		{
			Key: "flows.metrics", Needs: "flows.capacity", Not: "0", blames: "flows.metrics",
			Message: "{flows.metrics} needs {flows.capacity}: with 0 agents read no flows that they could count; set {flows.capacity} to 1 at least, or {flows.metrics} to []",
		},
		{
			Key: "flows.relay.enabled", Needs: "flows.capacity", Not: "0", blames: "flows.relay.enabled",
			Message: "{flows.relay.enabled} needs {flows.capacity}: a relay has nothing to tell where nodes keep no flows; set {flows.capacity} to how many they shall keep, or {flows.relay.enabled} to false",
		},
		{
			Key: "flows.relay.tls", Needs: "flows.relay.enabled", blames: "flows.relay.tls",
			Message: "{flows.relay.tls} needs {flows.relay.enabled}: it is about who may ask the relay; set {flows.relay.enabled} to true, or {flows.relay.tls} to false",
		},
	}
	var within string
	if at != "" {
		within = at + "."
	}
	names := strings.NewReplacer("{", within, "}", "")
	for i, r := range rules {
		rules[i].Key, rules[i].Needs, rules[i].blames, rules[i].Message = within+r.Key, within+r.Needs, within+r.blames, names.Replace(r.Message)
	}
	return rules
}

// Validate reports everything that is wrong with n at once, as joined [*Fault]s. At is the path of n in its document, for
// the keys that faults name; empty where n is the document.
func (n Network) Validate(at string) error {
	return errors.Join(slices.Concat(n.values(at), n.needs(at), n.devices(at), n.tunnel(at),
		labels(Join(at, "labels.include"), n.Labels.Include), labels(Join(at, "labels.exclude"), n.Labels.Exclude),
		n.IPAM.Validate(Join(at, "ipam")), n.pool(at))...)
}

// values checks each setting by itself.
func (n Network) values(at string) (errs []error) {
	for _, k := range Keys().Settings() {
		if k.Shape == TextList {
			errs = append(errs, k.words(at, k.Value(&n).([]string))...)
			continue
		}
		if _, bad := k.Scalar(Written(k.Value(&n))); bad != nil {
			errs = append(errs, &Fault{Keys: []string{Join(at, k.Path)}, Message: bad.Message})
		}
	}
	return errs
}

// words checks the items of a list for which the table has allowed ones.
func (k *Key) words(at string, items []string) (errs []error) {
	if len(k.Allowed) == 0 {
		return nil
	}
	for i, item := range items {
		bad := func(format string, args ...any) { errs = append(errs, itemFault(Join(at, k.Path), i, format, args...)) }
		switch reason, refused := k.Refused[item]; {
		case refused:
			bad("%q %s", item, reason)
		case !slices.Contains(k.Allowed, item):
			bad("%q is not offered; allowed: %s", item, k.Choices())
		case slices.Index(items, item) < i:
			bad("%s is listed twice", item)
		}
	}
	return errs
}

// needs checks what settings say together.
func (n Network) needs(at string) (errs []error) {
	root := Keys()
	value := func(path string) string {
		k, _, ok := root.Find(path)
		if !ok {
			panic("settings: a rule is about " + path + ", which is no key")
		}
		if raw := Written(k.Value(&n)); raw != "false" && raw != "[]" {
			return raw
		}
		return ""
	}
	texts := Needs(at)
	for i, r := range Needs("") {
		if value(r.Key) == "" || value(r.Needs) != r.Not {
			continue
		}
		keys := []string{texts[i].Key, texts[i].Needs}
		if texts[i].blames == texts[i].Needs {
			slices.Reverse(keys)
		}
		errs = append(errs, &Fault{Keys: keys, Message: texts[i].Message})
	}
	return errs
}

// Taken are UDP ports of every node that somebody has already.
type Taken struct {
	From  int    `json:"from"`
	To    int    `json:"to"` // the last
	Whose string `json:"whose"`
}

// TakenPorts are those that are known to be; the chart's templates hold tunnelPort against them too.
func TakenPorts() []Taken {
	return []Taken{
		{53, 53, "the port of DNS"},
		{68, 68, "the port of DHCP"},
		{30000, 32767, "one of the ports that Kubernetes gives to NodePorts, 30000 to 32767"},
		{32768, 65535, "one of the ports that flows get, 32768 to 65535"},
	}
}

func (n Network) tunnel(at string) (errs []error) {
	_, port, ok := n.Tunnel()
	if !ok {
		return nil
	}
	for _, taken := range TakenPorts() {
		if port >= taken.From && port <= taken.To {
			errs = append(errs, &Fault{Keys: []string{Join(at, "tunnelPort")}, Message: fmt.Sprintf("%d is %s; leave it out, or choose another", port, taken.Whose)})
		}
	}
	if n.MTU >= MinMTU && n.MTU < MinMTU+TunnelOverhead {
		errs = append(errs, &Fault{
			Keys:    []string{Join(at, "mtu"), Join(at, "routingMode")},
			Message: fmt.Sprintf("%s %d leaves pods less than %d bytes of packet, as the tunnel (%s tunnel) takes %d; raise it to %d at least", Join(at, "mtu"), n.MTU, MinMTU, Join(at, "routingMode"), TunnelOverhead, MinMTU+TunnelOverhead),
		})
	}
	return errs
}

var deviceForm = regexp.MustCompile(`^[^\s/:]{1,15}$`)

func (n Network) devices(at string) (errs []error) {
	for i, name := range n.Devices {
		bad := func(format string) { errs = append(errs, itemFault(Join(at, "devices"), i, format, name)) }
		switch {
		case !deviceForm.MatchString(name) || name == "." || name == "..":
			bad("%q is not a device name, which has 1 to 15 characters without spaces, slashes and colons")
		case name == "lo" || strings.HasPrefix(name, "lab_") || strings.HasPrefix(name, "lxc"):
			bad("%s does not lead out of the node; name a network device such as eth0")
		case slices.Index(n.Devices, name) < i:
			bad("%s is listed twice")
		}
	}
	return errs
}

// LabelPattern is what a label's key looks like, or the beginning of keys with "*" behind it.
const LabelPattern = `^([A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?|([A-Za-z0-9][-A-Za-z0-9_./]*)?\*)$`

var labelForm = regexp.MustCompile(LabelPattern)

func labels(at string, patterns []string) (errs []error) {
	for i, p := range patterns {
		bad := func(format string) { errs = append(errs, itemFault(at, i, format, p)) }
		switch {
		case !labelForm.MatchString(p):
			bad("%q is not the key of a label, such as app.kubernetes.io/name, nor the beginning of keys with * behind it")
		case slices.Index(patterns, p) < i:
			bad("%s is listed twice")
		}
	}
	return errs
}
