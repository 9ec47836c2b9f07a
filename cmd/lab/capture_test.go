package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"wirelab.dev/wirelab/labs"
)

func TestCaptureArgs(t *testing.T) {
	for _, tt := range []struct{ args, at, filter string }{
		{"cni", "cni", ""},
		{"cni worker:eth0 icmp", "cni worker:eth0", "icmp"},
		{"cni|tcp port 80 and host 10.0.0.1", "cni", "tcp port 80 and host 10.0.0.1"},
		{"cni tcp port 80", "cni", "tcp port 80"},
		{"cni|tcp[13] & 2 != 0", "cni", "tcp[13] & 2 != 0"},
		{"cni|(icmp or arp) and not host 10.0.0.1", "cni", "(icmp or arp) and not host 10.0.0.1"},
		{"cni|!icmp", "cni", "!icmp"},
		{"cni 10.0.0.1", "cni", "10.0.0.1"},
		{"cni fd00::/8", "cni", "fd00::/8"},
		{"net-tools default/host tcp-echo 0demo icmp", "net-tools default/host tcp-echo 0demo", "icmp"},
		{"icmp cni", "", ""},
		{"", "", ""},
	} {
		split := strings.Fields
		if strings.Contains(tt.args, "|") {
			split = func(s string) []string { return strings.Split(s, "|") }
		}
		at, filter, err := captureArgs(split(tt.args))
		if strings.Join(at, " ") != tt.at || filter != tt.filter || (err == nil) != (tt.at != "") {
			t.Errorf("%q: at %q, filter %q, %v", tt.args, at, filter, err)
		}
	}
}

// threePoints are the two ends of a pod's veth and a tunnel's device without Ethernet.
func threePoints() []labs.CapturePoint {
	return []labs.CapturePoint{
		{Name: "default/cni:eth0", Node: "l-worker", Device: "eth0", Pod: "default/cni"},
		{Name: "worker:lxc1", Node: "l-worker", Device: "lxc1", Pod: "default/cni", Host: true},
		{Name: "worker2:wg0", Node: "l-worker2", Device: "wg0", Raw: true},
	}
}

// TestCaptureFile: a reader finds each packet at its point, with its time and direction, and the counts; what the file had
// before is there until a capture begins.
func TestCaptureFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.pcapng")
	if err := os.WriteFile(path, bytes.Repeat([]byte("old"), 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := openCaptureFile(path, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if had, err := os.ReadFile(path); err != nil || len(had) != 30000 {
		t.Errorf("before it begins the file has %d bytes, %v", len(had), err)
	}
	points := threePoints()
	at := time.Unix(1700000000, 123456789)
	if err := c.begin("l", "icmp", points); err != nil {
		t.Fatal(err)
	}
	sent := []labs.Captured{
		{Point: 1, Time: at, Data: []byte("first"), Length: 5},
		{Point: 2, Time: at.Add(1), Data: []byte("second"), Length: 600, Out: true},
		{Point: 0, Time: at.Add(2), Data: []byte("third"), Length: 5, Out: true},
	}
	for _, p := range sent {
		if err := c.packet(p); err != nil {
			t.Fatal(err)
		}
	}
	points[1].Packets, points[1].Dropped = 1, 7
	if err := errors.Join(c.end(points), c.close()); err != nil {
		t.Fatal(err)
	}

	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range sent {
		data, info, options, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatal(err)
		}
		out := options.Flags != nil && options.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound
		if string(data) != string(want.Data) || !info.Timestamp.Equal(want.Time) || info.InterfaceIndex != want.Point || info.Length != want.Length || out != want.Out {
			t.Errorf("%q %+v, out %t; want %+v", data, info, out, want)
		}
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last packet: %v", err)
	}
	if r.NInterfaces() != len(points) || r.SectionInfo().Comment != "lab l" {
		t.Errorf("%d interfaces, section %+v", r.NInterfaces(), r.SectionInfo())
	}
	for i, want := range []struct {
		comment, description string
		link                 layers.LinkType
	}{
		{"node l-worker, device eth0, in pod default/cni", "eth0 of pod default/cni, on node l-worker", layers.LinkTypeEthernet},
		{"node l-worker, device lxc1, the other end of pod default/cni", "lxc1 of node l-worker, the other end of pod default/cni", layers.LinkTypeEthernet},
		{"node l-worker2, device wg0", "wg0 of node l-worker2", layers.LinkTypeRaw},
	} {
		got, err := r.Interface(i)
		if err != nil || got.Name != points[i].Name || got.Comment != want.comment || got.Description != want.description || got.LinkType != want.link || !strings.Contains(got.Filter, "icmp") {
			t.Errorf("interface %d: %+v, %v; want %+v", i, got, err, want)
		}
		if s := got.Statistics; s.PacketsReceived != uint64(points[i].Packets+points[i].Dropped) || s.PacketsDropped != uint64(points[i].Dropped) {
			t.Errorf("interface %d counts %+v", i, s)
		}
	}
}

// TestCaptureFileUnused: a capture that does not begin leaves nothing behind, and one that cannot be written to is known
// before.
func TestCaptureFileUnused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.pcapng")
	c, err := openCaptureFile(path, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "no", "such")} {
		if _, err := openCaptureFile(bad, io.Discard); err == nil || !strings.HasPrefix(err.Error(), "packets cannot be written: open "+bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	full, err := openCaptureFile("/dev/full", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer full.close()
	if err := full.begin("l", "", threePoints()); err == nil || err.Error() != "write packets to /dev/full: write /dev/full: no space left on device" {
		t.Errorf("a full disk: %v", err)
	}
}

// TestCapturePrints: a line or an object a packet, and at the end the counts.
func TestCapturePrints(t *testing.T) {
	echo := []byte{
		0x45, 0, 0, 28, 0, 0, 0, 0, 63, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
		8, 0, 0, 0, 0, 9, 0, 1, // ICMP
	}
	framed := append(append(bytes.Repeat([]byte{2}, 12), 8, 0), echo...)
	for _, machine := range []bool{false, true} {
		var out bytes.Buffer
		var said []string
		c := &capturing{out: &out, say: func(s string) { said = append(said, s) }, json: machine}
		points := threePoints()
		at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.Local)
		err := errors.Join(
			c.begin("l", "", points),
			c.packet(labs.Captured{Point: 0, Time: at, Data: framed, Length: 42, Out: true}),
			c.packet(labs.Captured{Point: 2, Time: at, Data: echo, Length: 28}),
		)
		points[0].Packets, points[2].Packets, points[2].Dropped = 1, 1, 3
		c.count(points)
		if err != nil {
			t.Fatal(err)
		}
		const summary = "ICMPv4 10.0.0.1 > 10.0.0.2, TTL 63, 28 bytes: echo request, id 9, seq 1"
		want := "03:04:05.000006 worker  default/cni:eth0 out " + summary + "\n" +
			"03:04:05.000006 worker2 wg0              in  " + summary + "\n"
		if machine {
			want = `"node":"l-worker","pod":"default/cni","device":"eth0","direction":"out","length":42,"summary":"` + summary + `","data":"`
		}
		if got := out.String(); machine && (!strings.Contains(got, want) || strings.Count(got, "\n") != 2) || !machine && got != want {
			t.Errorf("printed\n%s\nwant\n%s", got, want)
		}
		if got, want := strings.Join(said, "\n"), `capturing at default/cni:eth0, worker:lxc1, worker2:wg0
2 packets: default/cni:eth0 1, worker:lxc1 0, worker2:wg0 1
3 packets dropped at worker2:wg0, as the node was too slow to hand them on: a filter takes fewer`; got != want {
			t.Errorf("said\n%s\nwant\n%s", got, want)
		}
	}
}
