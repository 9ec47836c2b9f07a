package tap

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"wirelab.dev/wirelab/cmd/nettool/internal/link"
	"wirelab.dev/wirelab/verify/probe"
)

// etherExperiment is the EtherType that IEEE 802 keeps for experiments on one's own network, which no stack takes.
const etherExperiment = 0x88b5

// provenWithin bounds the wait for frames that take microseconds.
const provenWithin = time.Second

// prove sends a frame across each point, and notes of those where it is not seen why. What else is seen meanwhile is
// forgotten.
func (t *tap) prove(ctx context.Context) {
	marker := rand.Text()
	sent := map[int]error{} // by device: several points may be proven by one frame
	for _, p := range t.points {
		p.device.Unproven = "no frame that was sent there was seen"
		if p.device.Raw {
			p.device.Unproven = "a device without frames of Ethernet shows none"
			continue
		}
		err, done := sent[p.index]
		if !done {
			err = sendFrame(p.index, marker)
			sent[p.index] = err
		}
		if err != nil {
			p.device.Unproven = err.Error()
		}
	}
	for end := time.Now().Add(provenWithin); ctx.Err() == nil && time.Now().Before(end); {
		if t.allProven(marker) {
			return
		}
		if err := link.Wait(10*time.Millisecond, t.sockets()...); err != nil {
			return
		}
	}
}

// allProven takes what is queued, and says whether the frame has been seen everywhere.
func (t *tap) allProven(marker string) bool {
	all := true
	for _, p := range t.points {
		for p.device.Unproven != "" && !p.device.Raw {
			frame, ok, err := p.socket.Next(t.buffer)
			if err != nil || !ok {
				break
			}
			if bytes.Contains(frame.Data, []byte(marker)) {
				p.device.Unproven = ""
			}
		}
		all = all && (p.device.Unproven == "" || p.device.Raw)
	}
	return all
}

// sendFrame sends a frame with a payload out of a device, to nobody: from the nobody that it is for, so that no bridge hands
// it on.
func sendFrame(index int, payload string) error {
	nobody := []byte{0x02, 0, 0, 0, 0, 0}
	frame := append(append(bytes.Clone(nobody), nobody...), binary.BigEndian.AppendUint16(nil, etherExperiment)...)
	return write(index, append(frame, payload...))
}

// sendOut sends a frame that was asked for.
func sendOut(f probe.TapFrame) error {
	d, err := named(f.Device)
	if err != nil {
		return err
	}
	return write(d.index, f.Data)
}

func write(index int, frame []byte) error {
	socket, err := link.Open(index, 0)
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := socket.Write(frame); err != nil {
		return fmt.Errorf("send a frame to be seen: %w", err)
	}
	return nil
}
