package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/screen"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

func newCaptureCmd() *cobra.Command {
	var of labName
	var path string
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "capture POD|NODE[:DEVICE]... [FILTER] [-w FILE] [-- COMMAND...]",
		Short: "Capture packets at devices of nodes and pods, all at once",
		Long: `capture listens at devices of several nodes and pods at once and prints what crosses them in the order of
time, a line a packet, or writes it to a file that Wireshark and its kin read, pcapng, with the node and the
device of every packet.

A pod alone means its eth0 and the other end of that, on the node; a node alone means the device that has its
address. Other devices follow a colon. What follows, from the first word of tcpdump's filter language on, is
a filter.

With a command it runs it as soon as it listens everywhere, takes what crosses the devices while it runs, and
ends with its exit status; what the command prints goes to standard error. Without one it ends with an
interrupt. It says on standard error where it listens, and at the end how many packets there were.`,
		Example: `  lab capture cni -w demo.pcapng -- lab shell cni -- curl -s demo:8080
  lab capture default/cni worker worker2:lab_host icmp or arp
  lab capture worker worker2 'tcp port 8080' -w - | wireshark -k -i -`,
		Args:              usageArgs(cobra.ArbitraryArgs),
		ValidArgsFunction: completeCapture,
	}
	of.flag(cmd)
	cmd.Flags().StringVarP(&path, "write", "w", "", "write packets to this file, - for standard output")
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args, run, err := behindDash(cmd, args)
		if err != nil {
			return err
		}
		at, filter, err := captureArgs(args)
		switch {
		case err != nil:
			return usageError{err}
		case path == "-" && out.value == "json":
			return usageError{errors.New("standard output can have packets by -w - or JSON by -o json, not both")}
		}
		o := labs.CaptureOptions{At: at, Filter: filter, Say: waiting(cmd.ErrOrStderr())}
		if run != nil {
			o.While = run.run
		}
		c := &capturing{out: cmd.OutOrStdout(), say: o.Say, json: out.value == "json"}
		if path != "" {
			if c.file, err = openCaptureFile(path, cmd.OutOrStdout()); err != nil {
				return err
			}
		}
		err = c.run(cmd, of, o)
		if run != nil && run.ran() && (err == nil || errors.Is(err, labs.ErrPartly)) {
			return run.result()
		}
		return err
	}
	return cmd
}

// capturing is a capture at work.
type capturing struct {
	out    io.Writer
	say    func(string)
	json   bool
	file   *captureFile // nil: packets are printed
	points []labs.CapturePoint
	// nodes and devices of the points, as text has them.
	nodes, devices []string
	text           show.PacketText
}

func (c *capturing) run(cmd *cobra.Command, of labName, o labs.CaptureOptions) (err error) {
	if c.file != nil {
		defer func() { err = errors.Join(err, c.file.close()) }()
	}
	return of.open(cmd, func(l *labs.Lab) error {
		o.Begin = func(points []labs.CapturePoint) error { return c.begin(l.Name, o.Filter, points) }
		points, err := l.Capture(cmd.Context(), o, c.packet)
		if points == nil {
			return err
		}
		c.count(points)
		if err != nil && !errors.Is(err, labs.ErrPartly) {
			return err
		}
		return errors.Join(err, c.end(points))
	})
}

// begin says where it listens.
func (c *capturing) begin(lab, filter string, points []labs.CapturePoint) error {
	c.points = points
	var names []string
	for _, p := range points {
		names = append(names, p.Name)
		node, device := shown(lab, p)
		c.nodes, c.devices = append(c.nodes, node), append(c.devices, device)
		c.text.Node, c.text.Device = max(c.text.Node, len(node)), max(c.text.Device, len(device))
	}
	if f, ok := fileOf(c.out); ok {
		_, c.text.Width = screen.Terminal(f)
	}
	if c.file != nil {
		if err := c.file.begin(lab, filter, points); err != nil {
			return err
		}
	}
	c.say("capturing at " + strings.Join(names, ", "))
	return nil
}

// shown are the node and the device of a point as its lines have them.
func shown(lab string, p labs.CapturePoint) (node, device string) {
	if p.Pod != "" && !p.Host {
		return strings.TrimPrefix(p.Node, lab+"-"), p.Name
	}
	return strings.TrimPrefix(p.Node, lab+"-"), p.Device
}

// packet writes a packet, or prints it.
func (c *capturing) packet(p labs.Captured) error {
	if c.file != nil {
		return c.file.packet(p)
	}
	at := c.points[p.Point]
	printed := show.Packet{Time: p.Time, Node: at.Node, Pod: at.Pod, Device: at.Device, Direction: "in", Length: p.Length, Data: p.Data}
	if p.Out {
		printed.Direction = "out"
	}
	printed.Describe(at.Raw)
	var err error
	if c.json {
		err = jsonLine(c.out, printed)
	} else {
		_, err = io.WriteString(c.out, c.text.String(printed, c.nodes[p.Point], c.devices[p.Point]))
	}
	if err != nil {
		return fmt.Errorf("print a packet: %w", err)
	}
	return nil
}

// captureSummary is what -o json prints beside a file.
type captureSummary struct {
	File    string              `json:"file"`
	Packets int                 `json:"packets"`
	Dropped int                 `json:"dropped"`
	Points  []labs.CapturePoint `json:"points"`
}

// count says how many packets there were.
func (c *capturing) count(points []labs.CapturePoint) {
	all := 0
	var each []string
	for _, p := range points {
		all += p.Packets
		each = append(each, fmt.Sprintf("%s %d", p.Name, p.Packets))
	}
	c.say(fmt.Sprintf("%s: %s", show.Plural(all, "packet"), strings.Join(each, ", ")))
	for _, p := range points {
		if p.Dropped > 0 {
			c.say(fmt.Sprintf("%s dropped at %s, as the node was too slow to hand them on: a filter takes fewer", show.Plural(p.Dropped, "packet"), p.Name))
		}
	}
}

// end completes the file.
func (c *capturing) end(points []labs.CapturePoint) error {
	if c.file == nil {
		return nil
	}
	if err := c.file.end(points); err != nil || !c.json {
		return err
	}
	sum := captureSummary{File: c.file.path, Points: points}
	for _, p := range points {
		sum.Packets += p.Packets
		sum.Dropped += p.Dropped
	}
	return jsonLine(c.out, sum)
}

// jsonLine prints an object in a line, with the > of summaries as it is.
func jsonLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
