package datapath

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

const (
	// reservedPorts are those that the node's sockets are not given. What asks for one by number still gets it.
	reservedPorts = "net/ipv4/ip_local_reserved_ports"
	localPorts    = "net/ipv4/ip_local_port_range"
	// addedPorts is where it is remembered which ports were reserved here: a bit each.
	addedPorts = "+" + reservedPorts
)

// Flows that need a port of the node's get one of these, where the node's sockets can do without. It is the
// upper half of what the kernel's own default (32768-60999) and the IANA's dynamic range share; the sockets keep
// 16384 ports.
const (
	natMin = 49152
	natMax = 65535
)

// natRanges are tried in turn.
var natRanges = []portRange{{natMin, natMax}, {32768, natMin - 1}}

// portSet is any set of ports.
type portSet [1 << 16]bool

func setOf(ranges ...portRange) *portSet {
	s := &portSet{}
	for _, r := range ranges {
		for p := int(r.low); p <= int(r.high); p++ {
			s[p] = true
		}
	}
	return s
}

// parsePorts reads a list of ports and ranges, as "80,8000-8010".
func parsePorts(list string) (*portSet, error) {
	s := &portSet{}
	for _, part := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '\n' }) {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		low, errLow := strconv.ParseUint(first, 10, 16)
		high, errHigh := strconv.ParseUint(last, 10, 16)
		if err := errors.Join(errLow, errHigh); err != nil {
			return nil, fmt.Errorf("read ports %q: %w", part, err)
		}
		for p := low; p <= high; p++ {
			s[p] = true
		}
	}
	return s, nil
}

// String writes it as the kernel does: sorted, and what is next to each other as a range.
func (s *portSet) String() string {
	var parts []string
	for p := 0; p < len(s); p++ {
		if !s[p] {
			continue
		}
		first := p
		for p+1 < len(s) && s[p+1] {
			p++
		}
		if first == p {
			parts = append(parts, strconv.Itoa(p))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", first, p))
		}
	}
	return strings.Join(parts, ",")
}

// combine makes the set of those for which keep says so.
func (s *portSet) combine(other *portSet, keep func(here, there bool) bool) *portSet {
	out := &portSet{}
	for p := range s {
		out[p] = keep(s[p], other[p])
	}
	return out
}

func (s *portSet) plus(other *portSet) *portSet {
	return s.combine(other, func(a, b bool) bool { return a || b })
}

func (s *portSet) minus(other *portSet) *portSet {
	return s.combine(other, func(a, b bool) bool { return a && !b })
}

func (s *portSet) size() (n int) {
	for _, in := range s {
		if in {
			n++
		}
	}
	return n
}

// chooseNAT chooses the ports for flows: the first range that leaves the node's sockets at least half of what they
// have, or else the one that leaves most. Ranges that were reserved here before do not count as others'.
func (d *Datapath) chooseNAT() error {
	d.cfg.nat = natRanges[0]
	if !d.cfg.KubeProxyReplacement {
		return nil
	}
	free, err := d.localPorts()
	if err != nil {
		return err
	}
	current, found, added, err := reserved(d.cfg.Proc, d.maps.sysctls)
	if err != nil {
		return err
	}
	free = free.minus(current.minus(added.minus(found)))
	most := -1
	for _, r := range natRanges {
		left := free.minus(setOf(r)).size()
		if left > most {
			d.cfg.nat, most = r, left
		}
		if 2*left >= free.size() {
			d.cfg.nat = r
			break
		}
	}
	return nil
}

// localPorts are what the node's sockets are given ports from.
func (d *Datapath) localPorts() (*portSet, error) {
	text, err := readSysctl(d.cfg.Proc, localPorts)
	if err != nil {
		return nil, err
	}
	return parsePorts(strings.Join(strings.Fields(text), "-"))
}

// reserved are the reserved ports as they are, those that were found, and those that were added here.
func reserved(proc string, m *ebpf.Map) (current, found, added *portSet, err error) {
	text, err := readSysctl(proc, reservedPorts)
	if err != nil {
		return nil, nil, nil, err
	}
	if current, err = parsePorts(text); err != nil {
		return nil, nil, nil, err
	}
	pieces, err := sysctlMemory(m)
	if err != nil {
		return nil, nil, nil, err
	}
	was, known := valuesOf(pieces)[reservedPorts]
	if !known {
		return current, current, &portSet{}, nil
	}
	if found, err = parsePorts(was); err != nil {
		return nil, nil, nil, err
	}
	added, told := &portSet{}, false
	for key, part := range pieces {
		if key.path() != addedPorts {
			continue
		}
		told = true
		for bit := range sysctlPieceSize * 8 {
			added[key.piece()*sysctlPieceSize*8+bit] = part[bit/8]&(1<<(bit%8)) != 0
		}
	}
	if !told { // by an agent that always added these
		added = setOf(natRanges[0])
	}
	return current, found, added, nil
}

// rememberAdded keeps which ports were added.
func rememberAdded(m *ebpf.Map, added *portSet) error {
	for piece := range len(added) / (sysctlPieceSize * 8) {
		var part sysctlPiece
		for bit := range sysctlPieceSize * 8 {
			if added[piece*sysctlPieceSize*8+bit] {
				part[bit/8] |= 1 << (bit % 8)
			}
		}
		var err error
		if key := keyOf(addedPorts, piece); part == (sysctlPiece{}) && piece != 0 {
			err = forget(m, key)
		} else { // there is always one
			err = m.Put(key, part)
		}
		if err != nil {
			return fmt.Errorf("remember which ports are reserved: %w", err)
		}
	}
	return nil
}

// withoutReserved is what is to be written when ports are no longer reserved here: what others have reserved since
// stays.
func withoutReserved(proc string, m *ebpf.Map) (string, error) {
	current, found, added, err := reserved(proc, m)
	if err != nil {
		return "", err
	}
	return current.minus(added.minus(found)).String(), nil
}

// reservePorts reserves the ports for translated flows, and ports of frontends that the kernel could give to sockets of the
// node: packets to those belong to the frontend. Ports that are not needed any more are released. Lists are compared as
// sets, as the kernel has its own way to write them.
func (s *Sysctls) reservePorts() error {
	d := s.d
	free, err := d.localPorts()
	if err != nil {
		return err
	}
	outer, err := d.outerPorts()
	if err != nil {
		return err
	}
	ours := &portSet{}
	for _, p := range outer {
		ours[p] = free[p]
	}
	ours = ours.plus(setOf(d.cfg.nat))
	current, found, added, err := reserved(d.cfg.Proc, d.maps.sysctls)
	if err != nil {
		return err
	}
	want := current.minus(added.minus(found)).plus(ours)
	if *want == *current && *added == *ours.minus(found) {
		return d.leavesPorts(free, current)
	}
	if err := remember(d.maps.sysctls, reservedPorts, found.String()); err != nil {
		return err
	}
	ours = ours.minus(found)
	if err := rememberAdded(d.maps.sysctls, added.plus(ours)); err != nil {
		return err
	}
	if *want != *current {
		if err := writeSysctl(d.cfg.Proc, reservedPorts, want.String()); err != nil {
			return err
		}
		d.log.Info("sysctl is set", "sysctl", reservedPorts, "value", want.String(), "found", current.String())
	}
	return errors.Join(rememberAdded(d.maps.sysctls, ours), d.leavesPorts(free, want))
}

// leavesPorts is an error if no port is left for the node's own connections.
func (d *Datapath) leavesPorts(free, taken *portSet) error {
	if free.minus(taken).size() > 0 {
		return nil
	}
	return fmt.Errorf("net.ipv4.ip_local_port_range %s has no port that is not reserved (%s for flows of pods and Services): "+
		"make it wider, or start the agent anew for other ports", free, d.cfg.nat)
}
