package flowapi

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/apimachinery/pkg/labels"
)

// match says whether a flow is picked.
type match func(*flowpb.Flow) bool

// picker picks what one of white matches, or everything if there is none, and none of black does. An error is a sentence.
func picker(white, black []*flowpb.FlowFilter) (match, error) {
	in, err := filters(white)
	if err != nil {
		return nil, err
	}
	out, err := filters(black)
	if err != nil {
		return nil, err
	}
	is := func(f *flowpb.Flow) func(match) bool { return func(m match) bool { return m(f) } }
	return func(f *flowpb.Flow) bool {
		return (len(in) == 0 || slices.ContainsFunc(in, is(f))) && !slices.ContainsFunc(out, is(f))
	}, nil
}

func filters(all []*flowpb.FlowFilter) (out []match, err error) {
	for _, f := range all {
		m, err := filter(f)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// filter matches what every field of f that is set matches.
func filter(f *flowpb.FlowFilter) (match, error) {
	var all []match
	var err error
	f.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		read, ok := fields[field.Name()]
		if !ok {
			err = fmt.Errorf("flows cannot be picked by %s here: there are %s", field.Name(), strings.Join(fieldNames(), ", "))
			return false
		}
		var m match
		if m, err = read(f); err != nil {
			err = fmt.Errorf("%s: %w", field.Name(), err)
			return false
		}
		all = append(all, m)
		return true
	})
	return func(flow *flowpb.Flow) bool {
		return !slices.ContainsFunc(all, func(m match) bool { return !m(flow) })
	}, err
}

func fieldNames() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		names = append(names, string(name))
	}
	return names
}

// fields are those that flows can be picked by. Each makes what matches any of the field's values.
var fields = map[protoreflect.Name]func(*flowpb.FlowFilter) (match, error){
	"source_ip": func(f *flowpb.FlowFilter) (match, error) {
		return addrs(f.GetSourceIp(), func(f *flowpb.Flow) string { return f.GetIP().GetSource() })
	},
	"destination_ip": func(f *flowpb.FlowFilter) (match, error) {
		return addrs(f.GetDestinationIp(), func(f *flowpb.Flow) string { return f.GetIP().GetDestination() })
	},
	"source_pod": func(f *flowpb.FlowFilter) (match, error) { return pods(f.GetSourcePod(), (*flowpb.Flow).GetSource) },
	"destination_pod": func(f *flowpb.FlowFilter) (match, error) {
		return pods(f.GetDestinationPod(), (*flowpb.Flow).GetDestination)
	},
	"source_label": func(f *flowpb.FlowFilter) (match, error) {
		return selectors(f.GetSourceLabel(), (*flowpb.Flow).GetSource)
	},
	"destination_label": func(f *flowpb.FlowFilter) (match, error) {
		return selectors(f.GetDestinationLabel(), (*flowpb.Flow).GetDestination)
	},
	"source_identity": func(f *flowpb.FlowFilter) (match, error) {
		return oneOf(f.GetSourceIdentity(), func(f *flowpb.Flow) uint32 { return f.GetSource().GetIdentity() })
	},
	"destination_identity": func(f *flowpb.FlowFilter) (match, error) {
		return oneOf(f.GetDestinationIdentity(), func(f *flowpb.Flow) uint32 { return f.GetDestination().GetIdentity() })
	},
	"source_port": func(f *flowpb.FlowFilter) (match, error) {
		return ports(f.GetSourcePort(), func(f *flowpb.Flow) uint32 { src, _ := portsOf(f); return src })
	},
	"destination_port": func(f *flowpb.FlowFilter) (match, error) {
		return ports(f.GetDestinationPort(), func(f *flowpb.Flow) uint32 { _, dst := portsOf(f); return dst })
	},
	"traffic_direction": func(f *flowpb.FlowFilter) (match, error) {
		return oneOf(f.GetTrafficDirection(), (*flowpb.Flow).GetTrafficDirection)
	},
	"verdict": func(f *flowpb.FlowFilter) (match, error) { return oneOf(f.GetVerdict(), (*flowpb.Flow).GetVerdict) },
	"drop_reason_desc": func(f *flowpb.FlowFilter) (match, error) {
		return oneOf(f.GetDropReasonDesc(), (*flowpb.Flow).GetDropReasonDesc)
	},
	"ip_version": func(f *flowpb.FlowFilter) (match, error) {
		return oneOf(f.GetIpVersion(), func(f *flowpb.Flow) flowpb.IPVersion { return f.GetIP().GetIpVersion() })
	},
	"protocol":   func(f *flowpb.FlowFilter) (match, error) { return protocols(f.GetProtocol()) },
	"event_type": func(f *flowpb.FlowFilter) (match, error) { return eventTypes(f.GetEventType()), nil },
	"tcp_flags":  func(f *flowpb.FlowFilter) (match, error) { return flags(f.GetTcpFlags()), nil },
	"node_name":  func(f *flowpb.FlowFilter) (match, error) { return nodes(f.GetNodeName()) },
	"reply": func(f *flowpb.FlowFilter) (match, error) {
		return func(flow *flowpb.Flow) bool {
			return flow.GetIsReply() != nil && slices.Contains(f.GetReply(), flow.GetIsReply().GetValue())
		}, nil
	},
	"interface": func(f *flowpb.FlowFilter) (match, error) {
		return func(flow *flowpb.Flow) bool {
			return slices.ContainsFunc(f.GetInterface(), func(i *flowpb.NetworkInterface) bool {
				return (i.GetName() == "" || i.GetName() == flow.GetInterface().GetName()) && (i.GetIndex() == 0 || i.GetIndex() == flow.GetInterface().GetIndex())
			})
		}, nil
	},
}

func oneOf[T comparable](values []T, of func(*flowpb.Flow) T) (match, error) {
	return func(f *flowpb.Flow) bool { return slices.Contains(values, of(f)) }, nil
}

func addrs(values []string, of func(*flowpb.Flow) string) (match, error) {
	var prefixes []netip.Prefix
	for _, v := range values {
		p, err := netip.ParsePrefix(v)
		if a, wrong := netip.ParseAddr(v); wrong == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a CIDR", v)
		}
		prefixes = append(prefixes, p)
	}
	return func(f *flowpb.Flow) bool {
		a, err := netip.ParseAddr(of(f))
		return err == nil && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}, nil
}

// pods match namespace/beginning of a name; without the name all of the namespace, with an empty namespace pods of any, and
// without "/" those of the namespace default.
func pods(values []string, of func(*flowpb.Flow) *flowpb.Endpoint) (match, error) {
	return func(f *flowpb.Flow) bool {
		e := of(f)
		return slices.ContainsFunc(values, func(v string) bool {
			namespace, name, ok := strings.Cut(v, "/")
			if !ok {
				namespace, name = "default", v
			}
			return (namespace == "" || e.GetNamespace() == namespace) && strings.HasPrefix(e.GetPodName(), name) && (e.GetPodName() != "" || name == "" && namespace != "")
		})
	}, nil
}

// source is what says in front of a label where it is from.
var source = regexp.MustCompile(`\b(k8s|reserved|any):`)

// selectors match as Kubernetes' label selectors, in which keys may have in front where they are from.
func selectors(values []string, of func(*flowpb.Flow) *flowpb.Endpoint) (match, error) {
	var all []labels.Selector
	for _, v := range values {
		s, err := labels.Parse(source.ReplaceAllString(v, "$1."))
		if err != nil {
			return nil, fmt.Errorf("%q is no label selector, as k8s:app=demo", v)
		}
		all = append(all, s)
	}
	return func(f *flowpb.Flow) bool {
		set := labels.Set{}
		for _, l := range of(f).GetLabels() {
			key, value, _ := strings.Cut(l, "=")
			from, bare, _ := strings.Cut(key, ":")
			set[bare], set[from+"."+bare], set["any."+bare] = value, value, value
		}
		return slices.ContainsFunc(all, func(s labels.Selector) bool { return s.Matches(set) })
	}, nil
}

func ports(values []string, of func(*flowpb.Flow) uint32) (match, error) {
	var numbers []uint32
	for _, v := range values {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q is no port", v)
		}
		numbers = append(numbers, uint32(n))
	}
	return func(f *flowpb.Flow) bool {
		port := of(f)
		return port != 0 && slices.Contains(numbers, port)
	}, nil
}

func portsOf(f *flowpb.Flow) (src, dst uint32) {
	switch l := f.GetL4().GetProtocol().(type) {
	case *flowpb.Layer4_TCP:
		return l.TCP.GetSourcePort(), l.TCP.GetDestinationPort()
	case *flowpb.Layer4_UDP:
		return l.UDP.GetSourcePort(), l.UDP.GetDestinationPort()
	case *flowpb.Layer4_SCTP:
		return l.SCTP.GetSourcePort(), l.SCTP.GetDestinationPort()
	}
	return 0, 0
}

func protocols(values []string) (match, error) {
	var names []string
	for _, v := range values {
		name := cmp.Or(map[string]string{"icmp": "icmpv4"}[strings.ToLower(v)], strings.ToLower(v))
		if !slices.Contains([]string{"tcp", "udp", "sctp", "icmpv4"}, name) {
			return nil, fmt.Errorf("%q: there are tcp, udp, sctp and icmp", v)
		}
		names = append(names, name)
	}
	return func(f *flowpb.Flow) bool {
		l4 := f.GetL4().ProtoReflect()
		field := l4.WhichOneof(l4.Descriptor().Oneofs().ByName("protocol"))
		return field != nil && slices.Contains(names, strings.ToLower(string(field.Name())))
	}, nil
}

func eventTypes(values []*flowpb.EventTypeFilter) match {
	return func(f *flowpb.Flow) bool {
		return slices.ContainsFunc(values, func(v *flowpb.EventTypeFilter) bool {
			return v.GetType() == f.GetEventType().GetType() && (!v.GetMatchSubType() || v.GetSubType() == f.GetEventType().GetSubType())
		})
	}
}

// flags match segments that have all flags of one of values, whatever others they have.
func flags(values []*flowpb.TCPFlags) match {
	return func(f *flowpb.Flow) bool {
		has := f.GetL4().GetTCP().GetFlags()
		return has != nil && slices.ContainsFunc(values, func(want *flowpb.TCPFlags) bool {
			both := proto.Clone(has).(*flowpb.TCPFlags)
			proto.Merge(both, want)
			return proto.Equal(both, has)
		})
	}
}

func nodes(values []string) (match, error) {
	for _, v := range values {
		if _, err := path.Match(v, ""); err != nil || strings.Contains(v, "/") {
			return nil, fmt.Errorf("%q is no pattern of a node's name, as *-worker2", v)
		}
	}
	return func(f *flowpb.Flow) bool {
		return slices.ContainsFunc(values, func(v string) bool {
			ok, _ := path.Match(v, f.GetNodeName())
			return ok
		})
	}, nil
}
