package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"wirelab.dev/wirelab/internal/version"
	"wirelab.dev/wirelab/labs"
)

// captureFile is where packets are written to, as pcapng: one section with an interface for each point.
type captureFile struct {
	path  string
	out   io.Writer
	file  *os.File // nil where out is not ours to close
	made  bool     // by us: what was there before is left alone unless a capture begins
	ng    *pcapgo.NgWriter
	began time.Time
}

// openCaptureFile makes sure that packets can be written. The caller closes it.
func openCaptureFile(path string, stdout io.Writer) (*captureFile, error) {
	if path == "-" {
		if isTerminal(stdout) {
			return nil, usageError{errors.New("-w - writes packets to standard output, which is a terminal: leave -w away to read them here")}
		}
		return &captureFile{path: path, out: stdout}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as others who write captures
	made := err == nil
	if errors.Is(err, os.ErrExist) {
		f, err = os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // a path that the person asks for
	}
	if err != nil {
		return nil, fmt.Errorf("packets cannot be written: %w", err)
	}
	return &captureFile{path: path, out: f, file: f, made: made}, nil
}

// begin writes what comes before packets, in the place of what the file had.
func (c *captureFile) begin(lab, filter string, points []labs.CapturePoint) error {
	if c.file != nil {
		if about, err := c.file.Stat(); err != nil || about.Mode().IsRegular() {
			if err := errors.Join(err, c.file.Truncate(0)); err != nil {
				return c.failed(err)
			}
		}
	}
	section := pcapgo.NgSectionInfo{OS: "linux", Application: "wirelab " + version.Version, Comment: "lab " + lab}
	for i, p := range points {
		about := ngInterface(p, filter)
		var err error
		if i == 0 {
			c.ng, err = pcapgo.NewNgWriterInterface(c.out, about, pcapgo.NgWriterOptions{SectionInfo: section})
		} else {
			_, err = c.ng.AddInterface(about)
		}
		if err != nil {
			return c.failed(err)
		}
	}
	c.began = time.Now()
	return c.failed(c.ng.Flush())
}

// ngInterface is a point as the file has it.
func ngInterface(p labs.CapturePoint, filter string) pcapgo.NgInterface {
	about := []string{"node " + p.Node, "device " + p.Device}
	what := p.Device + " of node " + p.Node
	switch {
	case p.Host:
		about = append(about, "the other end of pod "+p.Pod)
		what = fmt.Sprintf("%s, the other end of pod %s", what, p.Pod)
	case p.Pod != "":
		about = append(about, "in pod "+p.Pod)
		what = fmt.Sprintf("%s of pod %s, on node %s", p.Device, p.Pod, p.Node)
	}
	kind := layers.LinkTypeEthernet
	if p.Raw {
		kind = layers.LinkTypeRaw
	}
	return pcapgo.NgInterface{
		Name: p.Name, Description: what, Comment: strings.Join(about, ", "), Filter: filter, OS: "linux",
		LinkType: kind, SnapLength: labs.MaxCaptured,
	}
}

// packet writes a packet, which others may read at once.
func (c *captureFile) packet(p labs.Captured) error {
	flags := &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}
	if p.Out {
		flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	info := gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(p.Data), Length: p.Length, InterfaceIndex: p.Point}
	err := c.ng.WritePacketWithOptions(info, p.Data, pcapgo.NgPacketOptions{Flags: flags})
	if err == nil {
		err = c.ng.Flush()
	}
	return c.failed(err)
}

// end writes how many packets there were.
func (c *captureFile) end(points []labs.CapturePoint) error {
	now := time.Now()
	for i, p := range points {
		counts := pcapgo.NgInterfaceStatistics{
			LastUpdate: now, StartTime: c.began, EndTime: now,
			PacketsReceived: uint64(p.Packets + p.Dropped), PacketsDropped: uint64(p.Dropped), //nolint:gosec // they are counts
		}
		if err := c.ng.WriteInterfaceStats(i, counts); err != nil {
			return c.failed(err)
		}
	}
	return c.failed(c.ng.Flush())
}

// close leaves no file behind that was made for a capture which did not begin.
func (c *captureFile) close() error {
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	if c.made && c.ng == nil {
		err = errors.Join(err, os.Remove(c.path))
	}
	return c.failed(err)
}

func (c *captureFile) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write packets to %s: %w", c.path, err)
}
