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
	// Prove has a frame cross each point before it is told that it is listened at, so that what is not seen later was not
	// there. No stack takes these frames. It makes no sense with a filter.
	Prove bool `json:"prove,omitempty"`
	// Frames are sent out of devices of nettool's namespace as soon as it listens.
	Frames []TapFrame `json:"frames,omitempty"`
}

// TapFrame is a frame to be sent out of a device.
type TapFrame struct {
	Device string `json:"device"`
	Data   []byte `json:"data"`
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
	MAC string // empty where it has none
	// Unproven is why no frame was seen there, where Tap.Prove asked for it; empty: one was.
	Unproven string
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
// because they were not read in time. A packet whose CPU had no turn between its time stamp and the queue may still follow.
type TapMark struct {
	UpTo    time.Time
	Dropped []int
}

// TapGone says that a point is listened at no more.
type TapGone struct {
	Point int
	Why   string
}
