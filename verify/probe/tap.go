package probe

import (
	"net/netip"
	"time"
)

// Tap says where `nettool tap` listens. It is read as JSON from its input, whose end is that of the tap.
type Tap struct {
	Points []TapPoint `json:"points"`
	// Filter picks packets, in tcpdump's language; empty: all.
	Filter string `json:"filter,omitempty"`
}

// TapPoint is a device.
type TapPoint struct {
	// Container has the device in its network namespace; its ID as its runtime has it. Empty: nettool has.
	Container string `json:"container,omitempty"`
	Pod       string `json:"pod,omitempty"` // what it is called
	// Device is its name, Address is one that it has: either is given.
	Device  string     `json:"device,omitempty"`
	Address netip.Addr `json:"address,omitzero"`
	// Peer means the other end of that veth, which is in nettool's namespace.
	Peer bool `json:"peer,omitempty"`
}

// Tapped is what `nettool tap` tells by encoding/gob, one thing at a time: at first Listening, and once it listens
// everywhere.
type Tapped struct {
	Listening []TapDevice
	Packet    *TapPacket
	Mark      *TapMark
	Gone      *TapGone
}

// TapDevice is the device of a point.
type TapDevice struct {
	Name string
	// Raw says that packets begin with the IP header, not with that of Ethernet.
	Raw bool
}

// TapPacket is a packet at one of the points, by its index.
type TapPacket struct {
	Point  int
	At     time.Time
	Data   []byte // its first MaxTapped bytes
	Length int
	Out    bool // towards the device, not from it
}

// MaxTapped bounds TapPacket.Data.
const MaxTapped = 1 << 18

// TapMark says that all packets before UpTo have been told, and how many the kernel has dropped so far at each of the points,
// because they were not read in time.
type TapMark struct {
	UpTo    time.Time
	Dropped []int
}

// TapGone says that a point is listened at no more.
type TapGone struct {
	Point int
	Why   string
}
