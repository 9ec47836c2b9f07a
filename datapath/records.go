package datapath

import (
	"fmt"
	stdmaps "maps"
	"time"
	"unsafe"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// The words for the programs' numbers in events.
var (
	points = map[bpf.Point]api.Point{
		bpf.PodLabPointPOINT_FROM_POD:     api.FromPod,
		bpf.PodLabPointPOINT_TO_POD:       api.ToPod,
		bpf.PodLabPointPOINT_FROM_STACK:   api.FromStack,
		bpf.PodLabPointPOINT_TO_STACK:     api.ToStack,
		bpf.PodLabPointPOINT_FROM_NETWORK: api.FromNetwork,
		bpf.PodLabPointPOINT_TO_NETWORK:   api.ToNetwork,
		bpf.PodLabPointPOINT_FROM_TUNNEL:  api.FromTunnel,
		bpf.PodLabPointPOINT_TO_TUNNEL:    api.ToTunnel,
	}
	// entrances are where packets come in, by the program.
	entrances = map[bpf.Direction]api.Point{
		bpf.PodLabDirectionDIR_FROM_POD:     api.FromPod,
		bpf.PodLabDirectionDIR_TO_POD:       api.FromStack,
		bpf.PodLabDirectionDIR_FROM_NETWORK: api.FromNetwork,
		bpf.PodLabDirectionDIR_TO_NETWORK:   api.FromStack,
	}
	states = map[bpf.State]api.State{
		bpf.PodLabStateSTATE_NEW:         api.StateNew,
		bpf.PodLabStateSTATE_ESTABLISHED: api.StateEstablished,
		bpf.PodLabStateSTATE_REPLY:       api.StateReply,
		bpf.PodLabStateSTATE_RELATED:     api.StateRelated,
	}
	occasions = map[bpf.Occasion]api.Occasion{
		bpf.PodLabOccasionOCCASION_START:    api.OccasionStart,
		bpf.PodLabOccasionOCCASION_REPLY:    api.OccasionReply,
		bpf.PodLabOccasionOCCASION_END:      api.OccasionEnd,
		bpf.PodLabOccasionOCCASION_INTERVAL: api.OccasionInterval,
	}
	stepKinds = map[bpf.StepKind]api.StepKind{
		bpf.PodLabStepSTEP_CACHE:       api.StepCache,
		bpf.PodLabStepSTEP_LOOKUP:      api.StepLookup,
		bpf.PodLabStepSTEP_IDENTITY:    api.StepIdentity,
		bpf.PodLabStepSTEP_TRANSLATION: api.StepTranslation,
		bpf.PodLabStepSTEP_CREATED:     api.StepCreated,
		bpf.PodLabStepSTEP_ROUTE:       api.StepRoute,
		bpf.PodLabStepSTEP_TUNNEL:      api.StepTunnel,
		bpf.PodLabStepSTEP_DELIVERY:    api.StepDelivery,
		bpf.PodLabStepSTEP_STACK:       api.StepStack,
	}
	tables = map[bpf.Table]string{
		bpf.PodLabTableTABLE_CT:       api.TableCT,
		bpf.PodLabTableTABLE_NAT:      api.TableNAT,
		bpf.PodLabTableTABLE_OBSERVED: api.TableObserved,
	}
)

// decode reads what a record begins with. T is generated from the C type that the program wrote, and has its layout in memory.
// To look at each field by reflection, as [binary.Decode] does, takes most of the time that a reader has for an event.
func decode[T bpf.EventHeader | bpf.Event | bpf.Step](record []byte) (v T, err error) {
	if len(record) < int(unsafe.Sizeof(v)) {
		return v, fmt.Errorf("read the event ring: a record of %d bytes is too short for %T", len(record), v)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), record) //nolint:gosec // see above
	return v, nil
}

// decodeHeader reads what every record begins with.
func decodeHeader(record []byte) (h bpf.EventHeader, err error) {
	if h, err = decode[bpf.EventHeader](record); err == nil && int(h.Length) != len(record) {
		err = fmt.Errorf("read the event ring: a record of %d bytes says that it has %d", len(record), h.Length)
	}
	return h, err
}

// names are those of devices and Services, as a reader has looked them up.
type names struct {
	d        *Datapath
	devices  map[int]string
	services map[uint32]string
}

func (d *Datapath) newNames() *names {
	return &names{d: d, devices: map[int]string{}, services: map[uint32]string{}}
}

// device is empty for one that is gone.
func (n *names) device(index int) string {
	name, ok := n.devices[index]
	if !ok {
		if l, err := n.d.nl.LinkByIndex(index); err == nil {
			name = l.Attrs().Name
		}
		n.devices[index] = name
	}
	return name
}

// service is empty for none.
func (n *names) service(id uint32) string {
	if id == 0 || n.d.maps.services == nil {
		return ""
	}
	name, ok := n.services[id]
	if !ok {
		stdmaps.Copy(n.services, n.d.Services().names())
		name = n.services[id]
		n.services[id] = name // "" is known, too
	}
	return name
}

// event makes an event of a record, which the next read overwrites; nil where it is of a kind that is not known here: old
// programs write into the same ring until new ones take their places.
func (n *names) event(head bpf.EventHeader, now clock, record []byte) (*api.Event, error) {
	if head.Version != bpf.PodLabEventVersionEVENT_VERSION {
		return nil, nil
	}
	e := &api.Event{
		Node:     n.d.cfg.NodeName,
		Time:     now.at(head.TimeNs),
		CPU:      int(head.Cpu),
		Sequence: head.Sequence,
		Packet:   head.First,
	}
	switch head.Type {
	case bpf.PodLabEventTypeEVENT_TRACE, bpf.PodLabEventTypeEVENT_DROP:
		raw, err := decode[bpf.Event](record)
		if err != nil {
			return nil, err
		}
		n.packet(e, raw)
		e.Data = append(e.Data, record[unsafe.Sizeof(raw):]...)
	case bpf.PodLabEventTypeEVENT_STEP:
		raw, err := decode[bpf.Step](record)
		if err != nil {
			return nil, err
		}
		e.Type, e.Step = api.EventStep, n.step(raw)
	default:
		return nil, nil
	}
	return e, nil
}

// packet fills in what a record says of a packet.
func (n *names) packet(e *api.Event, raw bpf.Event) {
	e.Type, e.Point = api.EventTrace, points[raw.Point]
	e.IfIndex = int(raw.Ifindex)
	e.Iface = n.device(e.IfIndex)
	if raw.Head.Type == bpf.PodLabEventTypeEVENT_DROP {
		e.Type, e.Point = api.EventDrop, entrances[raw.Direction]
		if e.Iface != "" && e.Iface == n.d.cfg.tunnelDevice() {
			e.Point = api.FromTunnel
		}
	}
	e.Reason, e.Direction = reasons[raw.Reason], string(directions[raw.Direction])
	e.SrcMAC, e.DstMAC = api.MAC(raw.SrcMac.B), api.MAC(raw.DstMac.B)
	e.EtherType, e.Proto = bpf.PortOf(raw.EtherType), raw.Proto
	e.Src, e.Dst = bpf.AddrPortOf(raw.Src, raw.Sport), bpf.AddrPortOf(raw.Dst, raw.Dport)
	e.OrigSrc, e.OrigDst = bpf.AddrPortOf(raw.OrigSrc, raw.OrigSport), bpf.AddrPortOf(raw.OrigDst, raw.OrigDport)
	e.TTL, e.TCPFlags, e.ICMPType, e.Length = raw.Ttl, raw.TcpFlags, raw.IcmpType, int(raw.Length)
	e.SrcEndpoint, e.DstEndpoint = raw.SrcId, raw.DstId
	e.SrcIdentity, e.DstIdentity = raw.SrcIdentity, raw.DstIdentity
	e.Service = n.service(raw.Service)
	e.State, e.Occasion = states[raw.State], occasions[raw.Occasion]
	e.Age, e.Decided, e.Cached = flowAge(raw.Age), nanoseconds(raw.Decided), raw.Cached
	e.Sent = api.Volume{Packets: raw.Sent.Packets, Bytes: raw.Sent.Bytes}
	e.Returned = api.Volume{Packets: raw.Returned.Packets, Bytes: raw.Returned.Bytes}
}

func (n *names) step(raw bpf.Step) *api.Step {
	s := &api.Step{
		Kind: stepKinds[raw.Kind], Table: tables[raw.Table], Proto: raw.Proto, Found: raw.Found, State: states[raw.State],
		Age: nanoseconds(raw.Age), MTU: int(raw.Mtu), IfIndex: int(raw.Ifindex),
	}
	if s.IfIndex != 0 {
		s.Iface = n.device(s.IfIndex)
	}
	switch raw.Kind {
	case bpf.PodLabStepSTEP_LOOKUP, bpf.PodLabStepSTEP_CREATED, bpf.PodLabStepSTEP_TRANSLATION:
		s.Src, s.Dst = bpf.AddrPortOf(raw.Src, raw.Sport), bpf.AddrPortOf(raw.Dst, raw.Dport)
		s.NewSrc, s.NewDst = bpf.AddrPortOf(raw.NewSrc, raw.NewSport), bpf.AddrPortOf(raw.NewDst, raw.NewDport)
		s.Service = n.service(raw.Number)
		if raw.Table == bpf.PodLabTableTABLE_OBSERVED {
			s.Age = flowAge(raw.Age)
		} else {
			s.Age, s.Idle = 0, s.Age
		}
	case bpf.PodLabStepSTEP_IDENTITY:
		s.Address, s.Identity = bpf.AddrOf(raw.Src), raw.Number
	case bpf.PodLabStepSTEP_TUNNEL:
		s.Address, s.Identity = bpf.AddrOf(raw.Dst), raw.Number
	case bpf.PodLabStepSTEP_ROUTE:
		s.Address = bpf.AddrOf(raw.Dst)
	case bpf.PodLabStepSTEP_DELIVERY:
		s.Endpoint = raw.Number
	}
	return s
}

// coarseTick is the time between two ticks of the coarse clock where it is longest, with CONFIG_HZ=100.
const coarseTick = 10 * time.Millisecond

// flowAge is the age of a flow by the coarse clock. Of one that is as short as a tick nothing is known: two packets that follow each
// other at once may have a tick between them.
func flowAge(n uint64) time.Duration {
	if age := nanoseconds(n); age > coarseTick {
		return age
	}
	return 0
}

func nanoseconds(n uint64) time.Duration { return time.Duration(n) } //nolint:gosec // not that long
