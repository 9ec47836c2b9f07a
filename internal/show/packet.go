package show

import (
	"fmt"
	"time"

	"wirelab.dev/wirelab/internal/dissect"
	"wirelab.dev/wirelab/internal/screen"
)

// Packet is one that was captured.
type Packet struct {
	Time      time.Time `json:"time"`
	Node      string    `json:"node"`
	Pod       string    `json:"pod,omitempty"` // has the device, or the other end of it where that is the node's
	Device    string    `json:"device"`
	Direction string    `json:"direction"` // in or out: whether the device got it or sent it
	Length    int       `json:"length"`
	Summary   string    `json:"summary"`
	Data      []byte    `json:"data"` // as much of it as was taken
}

// Describe sets the summary. raw says that the packet begins with the IP header.
func (p *Packet) Describe(raw bool) { p.Summary = dissect.Summary(p.Data, raw) }

// PacketText says how packets are laid out, a line each.
type PacketText struct {
	Node, Device int // how wide the columns are
	Width        int // of the screen, where lines are cut; 0: they are not
}

// String is a packet in a line, with its end. node and device are those names by which a person knows them.
func (t PacketText) String(p Packet, node, device string) string {
	line := fmt.Sprintf("%s %-*s %-*s %-3s %s", p.Time.Local().Format("15:04:05.000000"), t.Node, node, t.Device, device, p.Direction, p.Summary)
	return screen.Cut(line, t.Width) + "\n"
}
